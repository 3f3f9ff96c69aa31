"""Access requires the token, and no content of a file is executed."""

import ast
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from htt import yaml_text
from htt.errors import CheckpointError
from htt.model.weights import read_state
from htt.training import checkpoint

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("htt", "tune", "cluster", "benchmarks")
CODE = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))

PROGRAM = """
import json, os, pathlib, socket, subprocess, sys, urllib.error, urllib.request
import grpc
import ray
from cluster import connect

TOKEN = pathlib.Path.home() / ".ray" / "auth_token"
SUBMIT = json.dumps({"entrypoint": "touch " + sys.argv[1]}).encode()
STRANGER = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
JOIN = '''
import sys
from cluster import connect
from htt.errors import ClusterError
connect.REACH_S = 120.0
try:
    with connect.connect(sys.argv[1]) as there:
        print("joined", there.address == sys.argv[1])
except ClusterError as error:
    print(error)
'''
def status(url, token=None, data=None):
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    if token is not None:
        request.add_header("Authorization", "Bearer " + token)
    try:
        return urllib.request.urlopen(request, timeout=100).status
    except urllib.error.HTTPError as error:
        return error.code

def ask(url, data=None):
    return [status(url, token, data) for token in (None, "wrong" * 12, *([] if data else [secret]))]

def call(address, token=None):
    metadata = [("authorization", "Bearer " + token)] if token else []
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")
        try:
            return len(ask(b"", metadata=metadata, timeout=100)) > 0 and "alive"
        except grpc.RpcError as error:
            return error.code().name

def join(**env):
    command = [sys.executable, "-c", JOIN, connection.address]
    answer = subprocess.run(command, capture_output=True, text=True, env={**STRANGER, **env})
    return [answer.returncode, answer.stdout + answer.stderr]

def listening(port):
    lines = [line.split()[1:4] for name in ("tcp", "tcp6") for line in open("/proc/net/" + name)][1:]
    ends = [local.rpartition(":") for local, _, state in lines if state == "0A"]
    return sorted({host for host, _, number in ends if int(number, 16) == port})

with connect.connect(cpus=1) as connection:
    secret = TOKEN.read_text()
    session = pathlib.Path(ray._private.worker._global_node.get_session_dir_path())
    host = ray.nodes()[0]["NodeManagerAddress"]
    port = int(next(session.glob("dashboard_agent_listen_port_*")).read_text())  # -1: another Ray's agent has it
    named = sys.argv[2]
    told = {
        "mode": oct(TOKEN.stat().st_mode & 0o777),
        "dashboard": ask(connection.dashboard + "/nodes?view=summary"),
        "state": ask(connection.dashboard + "/api/v0/actors"),
        "job": ask(connection.dashboard + "/api/jobs/"),
        "submit": ask(connection.dashboard + "/api/jobs/", SUBMIT),
        "agent": ask(f"http://{host}:{port}/api/job_agent/jobs/", SUBMIT) if port > 0 else None,
        "listening": listening(int(connection.dashboard.rpartition(":")[2])),
        "gcs": [call(connection.address, token) for token in (None, "wrong" * 12, secret)],
        "join without": join(HOME=named),
        "join with": join(),
    }
    lines = [entry.read_bytes() for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline")]
    told["in a command line"] = any(secret.encode() in line for line in lines)
    files = [path for path in session.rglob("*") if path.is_file()]
    told["logs"] = len([path for path in files if path.parent.name == "logs"])
    told["in a file of the session"] = [str(path) for path in files if secret.encode() in path.read_bytes()]
    told["folder"] = oct(session.parents[1].stat().st_mode & 0o777)
    stranger = {"user": 65534} if os.geteuid() == 0 else {}
    told["stranger"] = subprocess.run(["ls", session], capture_output=True, **stranger).returncode if stranger else 2
    told["metrics"] = [path.read_text() for path in session.glob("metrics_export_port*")]
told["left"] = session.parents[1].exists()
told["environment"] = [name for name in os.environ if name.startswith("RAY_AUTH")]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Answers of a local Ray with and without its token, queried in a separate process."""
    home, nobody = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("nobody")
    made = nobody / "made-by-a-stranger"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    env |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM, str(made), str(nobody)]
    answer = subprocess.run(command, capture_output=True, text=True, env=env, cwd=home, check=False)
    assert answer.returncode == 0, answer.stderr
    return {**json.loads(answer.stdout.splitlines()[-1]), "noise": answer.stderr, "made": made.exists()}


@pytest.mark.ray
@pytest.mark.parametrize("door", ["dashboard", "state", "job"])
def test_dashboard_requires_token(told, door):
    assert told[door] == [401, 403, 200]


@pytest.mark.ray
@pytest.mark.parametrize("door", ["submit", "agent"])
def test_job_submission_requires_token(told, door):
    if told[door] is None:
        pytest.skip("another Ray on this machine has the port of the agent")
    assert told[door] == [401, 403]
    assert not told["made"]


@pytest.mark.ray
def test_gcs_requires_token(told):
    assert told["gcs"] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "alive"]


@pytest.mark.ray
def test_connect_without_token_is_one_sentence(told):
    code, output = told["join without"]
    assert "requires its token, and there is none in " in output
    assert (code, output.count("\n")) == (0, 1)


@pytest.mark.ray
def test_connect_reads_token_without_settings(told):
    assert told["join with"] == [0, "joined True\n"]


@pytest.mark.ray
def test_token_is_kept_out_of_logs_and_command_lines(told):
    assert told["mode"] == "0o600"
    assert told["logs"] > 5
    assert told["in a file of the session"] == []
    assert not told["in a command line"]
    assert told["environment"] == []
    assert told["noise"] == ""


@pytest.mark.ray
def test_connect_protects_and_removes_folder_of_ray(told):
    assert told["folder"] == "0o700"
    assert told["stranger"] == 2
    assert told["left"] is False


@pytest.mark.ray
def test_connect_starts_no_metrics_exporter(told):
    assert told["metrics"] == ["-1"]


@pytest.mark.ray
def test_dashboard_listens_on_localhost_only(told):
    assert told["listening"] == ["0100007F"]


class Hostile:
    """Pickle that creates a file when it is loaded."""

    def __init__(self, made):
        self.made = made

    def __reduce__(self):
        return (Path.touch, (self.made,))


@pytest.fixture
def hostile(tmp_path):
    """Return a file of pickled code, and the file that it would create."""
    made = tmp_path / "made"
    return Hostile(made), made


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.bin", "weights.pkl", "weights.safetensors"])
@pytest.mark.parametrize("way", ["pickle", "torch", "old torch"])
def test_read_state_refuses_pickles_with_code(tmp_path, hostile, name, way):
    state, made = {"state_dict": hostile[0]}, hostile[1]
    file = tmp_path / name
    if way == "pickle":
        file.write_bytes(pickle.dumps(state, protocol=2))  # torch warns of others
    else:
        torch.save(state, file, _use_new_zipfile_serialization=way == "torch")
    with pytest.raises(CheckpointError, match=r"expected a \.safetensors file or a torch state dict"):
        read_state(file)
    assert not made.exists()
    pickle.loads(pickle.dumps(state))
    assert made.exists(), "the pickle must be one that works"


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.TRAINING, checkpoint.RECORD, checkpoint.CLIPS])
def test_load_checkpoint_executes_no_code(tmp_path, hostile, name):
    (tmp_path / name).write_bytes(pickle.dumps(hostile[0]))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path)
    assert not hostile[1].exists()


@pytest.fixture(scope="module")
def places():
    """Return the places of calls that break a rule about their dotted name and named arguments."""
    calls = [
        (
            f"{path.relative_to(ROOT)}:{node.lineno}",
            ast.unparse(node.func),
            {word.arg: word.value for word in node.keywords},
        )
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
    ]
    assert len(calls) > 1000
    return lambda wrong: [f"{place} {called}" for place, called, words in calls if wrong(called, words)]


def is_true(node):
    return isinstance(node, ast.Constant) and node.value is True


def test_code_calls_torch_load_with_weights_only(places):
    assert places(lambda called, words: called == "torch.load" and not is_true(words.get("weights_only"))) == []


def test_code_unpickles_nothing(places):
    loaders = {"load", "loads", "Unpickler", "read_pickle"}
    modules = ("pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")
    wrong = lambda called, _: called.partition(".")[0] in modules and called.rpartition(".")[2] in loaders  # noqa: E731
    assert places(wrong) == []
    allowed = lambda called, words: called in ("np.load", "numpy.load") and "allow_pickle" in words  # noqa: E731
    assert places(allowed) == []


def test_code_reads_yaml_with_safe_loaders(places):
    safe = {"yaml.safe_load", "yaml.safe_dump", "yaml.safe_load_all"}
    others = places(lambda called, _: re.fullmatch(r"yaml\.\w*(load|dump)\w*", called) and called not in safe)
    assert {place.partition(":")[0] for place in others} == {"htt/yaml_text.py"}
    loaders = [
        kind for kind in vars(yaml_text).values() if isinstance(kind, type) and issubclass(kind, yaml.reader.Reader)
    ]
    assert loaders
    assert all(issubclass(kind, yaml.SafeLoader) for kind in loaders)


def test_code_calls_no_shell_and_no_eval(places):
    assert places(lambda _, words: "shell" in words) == []
    shells = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}
    assert places(lambda called, _: called in shells or called.startswith(("os.exec", "os.spawn"))) == []
    assert places(lambda called, _: called in ("eval", "exec", "compile", "__import__")) == []


def test_repository_contains_no_token():
    """Check for 64 hexadecimal digits; checksums of this length are in data files only."""
    kinds = ["*.yaml", "*.sh", "*.md", "*.py", "*.toml", "*.txt"]
    command = ["git", "grep", "--untracked", "-lwE", "[0-9a-f]{64}", "--", *kinds]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode == 128:
        pytest.skip("no git repository here")
    assert answer.stdout.split() == []
