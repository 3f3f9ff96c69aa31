import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster import connect
from htt.errors import ClusterError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "No Ray cluster answers at '127.0.0.1:1': .*refused"),
        ("a..b:6379", r"No Ray cluster answers at 'a\.\.b:6379': .*Check the address"),
        ("nonsense", "Invalid --address 'nonsense': expected host:port"),
        (":6379", "Invalid --address ':6379': expected host:port"),
        ("127.0.0.1:99999", "No Ray cluster answers"),
        ("ray://host:10001", "ray job submit"),
    ],
)
def test_connect_reports_unreachable_address_at_once(address, message):
    began = time.monotonic()
    with pytest.raises(ClusterError, match=message), connect.connect(address):
        pass
    assert time.monotonic() - began < 30


def test_connect_reports_port_without_ray(monkeypatch):
    monkeypatch.setattr(connect, "REACH_S", 2.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ClusterError, match="no answer within 2 s"), connect.connect(address):
            pass


@pytest.mark.parametrize("train", [False, True])
def test_connect_starts_a_dashboard_for_ray_train_only(monkeypatch, train):
    """The dashboard takes seconds to start."""
    asked, before = [], dict(os.environ)

    def init(options):
        asked.append((options["include_dashboard"], "RAY_API_SERVER_ADDRESS" in os.environ))
        raise RuntimeError("no Ray")

    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://elsewhere:1")
    monkeypatch.setattr(connect.parallel, "init", init)
    with pytest.raises(ClusterError, match="Cannot start Ray on this machine: no Ray"), connect.connect(train=train):
        pass
    assert asked == [(train, train)]
    monkeypatch.undo()
    assert dict(os.environ) == before


def test_connect_restores_environment():
    before = dict(os.environ)
    with pytest.raises(ClusterError), connect.connect("127.0.0.1:1"):
        pass
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"HOME": "/nowhere"}, r"there is none in /nowhere/\.ray/auth_token\. Copy it from the machine that started"),
        ({"RAY_AUTH_TOKEN": "wrong"}, r"the one in RAY_AUTH_TOKEN is wrong\. Copy it from"),
        ({"RAY_AUTH_TOKEN_PATH": __file__}, r"the one in .*test_connect\.py is wrong\. Copy it"),
        ({"RAY_AUTH_MODE": "disabled"}, r"RAY_AUTH_MODE is disabled here\. Unset it\."),
    ],
)
def test_connect_explains_refused_token(monkeypatch, settings, message):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    refusal = subprocess.CompletedProcess([], 1, "", "a traceback\nInvalidAuthToken: missing or incorrect")
    monkeypatch.setattr(connect.subprocess, "run", lambda *_, **__: refusal)
    with pytest.raises(ClusterError, match="at 'auto': it requires its token, and " + message), connect.connect("auto"):
        pass


PROGRAM = """
import json, os, subprocess, sys
import ray
from cluster import connect, resources

JOIN = '''
import sys
from cluster import connect
with connect.connect(sys.argv[1]) as there:
    print(there.started, there.address == sys.argv[1])
'''

@ray.remote
def worker():
    import htt
    names = ("RAY_API_SERVER_ADDRESS", "RAY_CHDIR_TO_TRIAL_DIR", "RAY_USAGE_STATS_ENABLED")
    return {name: os.environ.get(name) for name in names}

with connect.connect(cpus=1) as connection:
    with connect.connect() as same:
        assert same.address == connection.address
    assert ray.is_initialized()
    seen = ray.get(worker.remote())
    joined = subprocess.run([sys.executable, "-c", JOIN, connection.address], capture_output=True, text=True)
    here = resources.machines()
    result = {"seen": seen, "dashboard": connection.dashboard, "started": connection.started, "cpus": here[0].cpus,
              "joined": joined.stdout.strip(), "noise": joined.stderr, "ray_address": os.environ["RAY_ADDRESS"],
              "address": connection.address}
assert not ray.is_initialized()
assert "RAY_ADDRESS" not in os.environ
print(json.dumps(result))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_connect_starts_quiet_local_ray_that_others_can_join(tmp_path):
    import json

    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "OMP_NUM_THREADS")
    env = {name: value for name, value in os.environ.items() if name not in names}
    env["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", PROGRAM]
    answer = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    result = json.loads(answer.stdout)
    assert result["dashboard"].startswith("http://127.0.0.1:")
    assert result["seen"] == {
        "RAY_API_SERVER_ADDRESS": result["dashboard"],
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    assert (result["started"], result["cpus"]) == (True, 1.0)
    assert result["ray_address"] == result["address"]
    assert result["joined"] == "False True"
    assert result["noise"] == ""


WITHOUT_TOKEN = """
import os, subprocess, sys
from cluster import connect

JOIN = '''
import sys
import ray
from cluster import connect
with connect.connect(sys.argv[1]):
    @ray.remote(num_cpus=0)
    class Counter:
        def __init__(self):
            self.count = 0
        def add(self):
            self.count += 1
            return self.count
    counters = [Counter.remote() for _ in range(2)]
    print([ray.get(counter.add.remote()) for counter in counters for _ in range(2)])
'''

with connect.connect(cpus=1) as connection:
    env = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    env["RAY_ADDRESS"] = connection.address
    for address in (connection.address, "auto"):
        subprocess.run([sys.executable, "-c", JOIN, address], env=env, check=True)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_connect_with_token_joins_cluster_without_authentication(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_A")}
    env |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, "-c", WITHOUT_TOKEN]
    answer = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout == "[1, 2, 1, 2]\n" * 2
