#!/usr/bin/env bash
# Prepare a machine for the cluster: install the pinned packages in a virtual environment and let Ray require a token.
#
#   bash cluster/deploy/setup.sh python3.12             a new environment in ~/.htt/venv, with that Python
#   bash cluster/deploy/setup.sh python3.12 /nfs/venv   an existing environment, which is not changed
#
# Every cluster file runs this script on every machine. Steps that are done already are skipped, so that a second run
# takes about a second.
set -euo pipefail

refuse() { echo "setup: $*" >&2; exit 2; }

[ $# -ge 1 ] || refuse "expected a Python from 3.11 to 3.13 as first argument, such as: bash cluster/deploy/setup.sh python3.12"
python=$1
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
pins=$project/cluster/deploy/requirements.txt
token=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
mkdir -p "$HOME/.htt"

if [ $# -ge 2 ]; then
    venv=$2
    [ -x "$venv/bin/ray" ] || refuse "no Ray in $venv; install the packages there first: pip install -r cluster/deploy/requirements.txt"
else
    venv=$HOME/.htt/venv
    command -v "$python" >/dev/null || refuse "no $python on this machine; install it, or use another Python from 3.11 to 3.13"
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' ||
        refuse "expected a Python from 3.11 to 3.13 for the pinned packages; $python is $("$python" --version)"
    wanted=$("$python" --version; sha256sum <"$pins")
    if [ "$wanted" != "$(cat "$venv/holds" 2>/dev/null)" ]; then
        "$python" -m venv --clear "$venv" ||
            refuse "$python cannot create a virtual environment; on Debian and Ubuntu: sudo apt-get install -y $python-venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
        echo "$wanted" >"$venv/holds"
    fi
fi

# Without the token, Ray on this machine would never join the cluster, and would not report why.
if [ -z "${RAY_AUTH_TOKEN:-}" ]; then
    [ -s "$token" ] || refuse "no token in $token; create it on the machine where you run ray up: python -m cluster.make_token"
    chmod 600 "$token"
fi

# Every shell of Ray's launcher or of ssh reads the first lines of ~/.bashrc. On Debian and Ubuntu the shell that starts
# a worker does so too, because bash takes it for a shell of ssh. So the project comes last in PYTHONPATH: the code of
# a job must stay before it.
cat >"$HOME/.htt/environment" <<END
export PATH="$venv/bin:\$PATH"
export PYTHONPATH="\${PYTHONPATH:+\$PYTHONPATH:}$project"
export RAY_AUTH_MODE=token
export RAY_USAGE_STATS_ENABLED=0
export RAY_enable_metrics_collection="\${RAY_enable_metrics_collection:-0}"
END
touch "$HOME/.bashrc"
line='. "$HOME/.htt/environment"'
if ! grep -qxF "$line" "$HOME/.bashrc"; then
    file=$(readlink -f "$HOME/.bashrc") # it may be a symbolic link: change its target
    cp -p "$file" "$file.new"           # keep owner and mode, and replace the file atomically
    printf '%s\n%s\n' "$line" "$(cat "$file")" >"$file.new"
    mv "$file.new" "$file"
fi

echo "setup: ready; $("$venv/bin/python" --version), Ray $("$venv/bin/python" -c 'import importlib.metadata as m; print(m.version("ray"))')"
