"""``cluster/deploy/setup.sh``, with a Python that makes environments without downloading anything."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = """#!/bin/sh
case "$1" in
  --version) echo "Python $VERSION" ;;
  -c) [ "$VERSION" != 3.10.0 ] ;;
  -m) [ -n "$BROKEN" ] && exit 1
      echo "venv $4" >>"$CALLS"
      rm -rf "$4"; mkdir -p "$4/bin"
      for name in pip ray python; do
        printf '#!/bin/sh\\necho "%s $*" >>"$CALLS"\\n' $name >"$4/bin/$name"; chmod +x "$4/bin/$name"
      done ;;
esac
"""


class Machine:
    """Home folder with the project and a Python; ``calls`` lists the environments and packages it made."""

    def __init__(self, folder):
        self.home, self.calls_file = folder / "a home", folder / "calls"
        self.project = self.home / "htt_platform"
        (self.project / "cluster" / "deploy").mkdir(parents=True)
        for name in ("setup.sh", "requirements.txt"):
            shutil.copy(ROOT / "cluster" / "deploy" / name, self.project / "cluster" / "deploy")
        self.python = folder / "python"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CALLS": str(self.calls_file),
            "VERSION": "3.12.1",
        }

    def give_token(self):
        file = self.home / ".ray" / "auth_token"
        file.parent.mkdir()
        file.write_text("secret")
        file.chmod(0o644)
        return file

    def setup(self, *words, **env):
        command = ["bash", str(self.project / "cluster" / "deploy" / "setup.sh"), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env={**self.env, **env}, check=False)

    def calls(self):
        """Return the arguments of each call, without the final query of the version."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line.split()[0] for line in lines if not line.startswith("python")]

    def say(self, words):
        """Return the output of a shell of this user."""
        command = ["bash", "-ic", words]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, check=True).stdout.strip()


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_setup_makes_a_machine_ready(machine):
    token = machine.give_token()
    answer = machine.setup(machine.python)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("setup: ready; ")
    assert machine.calls() == ["venv", "pip"]
    assert token.stat().st_mode & 0o777 == 0o600
    assert machine.say("echo $RAY_AUTH_MODE; echo $PYTHONPATH; command -v ray") == "\n".join(
        ["token", str(machine.project), str(machine.home / ".htt/venv/bin/ray")]
    )
    assert "secret" not in answer.stdout + answer.stderr


def test_setup_keeps_code_of_a_job_before_code_of_the_machine(machine):
    """Check that the job's folder stays first in PYTHONPATH: the shell that starts a worker reads ``.bashrc`` too."""
    machine.give_token()
    machine.setup(machine.python)
    machine.env["PYTHONPATH"] = "/the/job"
    assert machine.say("echo $PYTHONPATH") == f"/the/job:{machine.project}"


def test_setup_run_twice_installs_once(machine):
    machine.give_token()
    (machine.home / ".bashrc").write_text("alias mine=true\n")
    for _ in range(2):
        assert machine.setup(machine.python).returncode == 0
    assert machine.calls() == ["venv", "pip"]
    assert (machine.home / ".bashrc").read_text() == '. "$HOME/.htt/environment"\nalias mine=true\n'


def test_setup_keeps_the_link_and_mode_of_a_bashrc(machine, tmp_path):
    machine.give_token()
    settings = tmp_path / "settings" / "bashrc"
    settings.parent.mkdir()
    settings.write_text("alias mine=true\n")
    settings.chmod(0o640)
    (machine.home / ".bashrc").symlink_to(settings)
    assert machine.setup(machine.python).returncode == 0
    assert (machine.home / ".bashrc").readlink() == settings
    assert settings.read_text() == '. "$HOME/.htt/environment"\nalias mine=true\n'
    assert settings.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in settings.parent.iterdir()] == ["bashrc"]


def test_setup_keeps_metrics_of_ray_off_unless_enabled(machine):
    machine.give_token()
    machine.setup(machine.python)
    assert machine.say("echo $RAY_enable_metrics_collection") == "0"
    machine.env["RAY_enable_metrics_collection"] = "1"
    assert machine.say("echo $RAY_enable_metrics_collection") == "1"


def test_setup_reinstalls_for_changed_pins_or_python(machine):
    machine.give_token()
    machine.setup(machine.python)
    with (machine.project / "cluster" / "deploy" / "requirements.txt").open("a") as pins:
        pins.write("# changed\n")
    machine.setup(machine.python)
    machine.setup(machine.python, VERSION="3.12.2")
    assert machine.calls() == ["venv", "pip"] * 3


def test_setup_reinstalls_a_missing_environment(machine):
    machine.give_token()
    machine.setup(machine.python)
    shutil.rmtree(machine.home / ".htt" / "venv")
    assert machine.setup(machine.python).returncode == 0
    assert machine.calls() == ["venv", "pip"] * 2


def test_setup_uses_a_given_environment_unchanged(machine, tmp_path):
    machine.give_token()
    (tmp_path / "nfs" / "bin").mkdir(parents=True)
    for name in ("ray", "python"):
        shutil.copy("/bin/true", tmp_path / "nfs" / "bin" / name)
    assert machine.setup(machine.python, tmp_path / "nfs").returncode == 0
    assert machine.calls() == []
    assert machine.say("command -v ray") == str(tmp_path / "nfs/bin/ray")


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        ([], {}, "expected a Python from 3.11 to 3.13 as first argument"),
        (["python9.9"], {}, "no python9.9 on this machine; install it, or use another"),
        (["PYTHON"], {"VERSION": "3.10.0"}, "for the pinned packages; PYTHON is Python 3.10.0"),
        (["PYTHON"], {"BROKEN": "1"}, "PYTHON cannot create a virtual environment; on Debian"),
        (["PYTHON", "/nowhere"], {}, "no Ray in /nowhere; install the packages there first"),
        (
            ["PYTHON"],
            {},
            "no token in HOME/.ray/auth_token; create it on the machine where you run ray up: python -m",
        ),
    ],
)
def test_setup_reports_missing_requirements_in_one_sentence(machine, words, env, message):
    def real(text):
        return text.replace("PYTHON", str(machine.python)).replace("HOME", str(machine.home))

    answer = machine.setup(*map(real, words), **env)
    assert answer.returncode == 2
    assert real(message) in answer.stderr
    assert answer.stderr.startswith("setup: ")


def test_setup_never_executes_its_argument_as_shell_code(machine, tmp_path):
    answer = machine.setup(f"$(touch {tmp_path}/made); touch {tmp_path}/made")
    assert answer.returncode == 2
    assert not (tmp_path / "made").exists()
