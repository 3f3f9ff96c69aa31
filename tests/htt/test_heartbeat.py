"""A Ray that dies while it is used ends the block that uses it, wherever that waits."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from htt import heartbeat
from htt.errors import DataError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dies(monkeypatch):
    """A Ray whose processes end when a test says so."""
    dead = []
    node = SimpleNamespace(dead_processes=lambda: dead)
    worker = SimpleNamespace(_global_node=node, global_worker=None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(_private=SimpleNamespace(worker=worker)))
    monkeypatch.setattr(heartbeat, "LOOK_S", 0.01)
    return lambda kind: dead.append((kind, SimpleNamespace(returncode=-9)))


@pytest.mark.parametrize(("kind", "named"), [("raylet", "raylet"), ("gcs_server", r"head \(GCS\)")])
def test_watched_ends_a_waiting_block_if_a_core_process_dies(dies, kind, named):
    before = signal.getsignal(heartbeat.SIGNAL)
    dies(kind)
    with pytest.raises(heartbeat.LostRayError, match=f"its {named} process"), heartbeat.watched(started=True):
        time.sleep(60)
    assert signal.getsignal(heartbeat.SIGNAL) == before


def test_watched_lets_other_processes_end_and_other_errors_pass(dies):
    with heartbeat.watched(started=True):
        dies("log_monitor")
        time.sleep(0.1)
    with pytest.raises(DataError, match="no clip"), heartbeat.watched(started=True):
        raise DataError("no clip")
    with pytest.raises(KeyboardInterrupt), heartbeat.watched(started=True):
        raise KeyboardInterrupt


def test_watched_names_the_death_behind_an_error_of_ray(dies, monkeypatch):
    monkeypatch.setattr(heartbeat, "LOOK_S", 60.0)
    dies("raylet")
    with pytest.raises(heartbeat.LostRayError, match="its raylet process"), heartbeat.watched(started=True):
        raise RuntimeError("an actor died")


def test_watched_gives_a_head_up_that_is_silent_for_long(dies, monkeypatch):
    monkeypatch.setattr(heartbeat, "SILENT_S", 0.1)
    silent = pytest.raises(heartbeat.LostRayError, match="its head has not answered for")
    with silent, heartbeat.watched(started=False):
        time.sleep(60)


STUCK = """
import signal, sys, time
from types import SimpleNamespace
from htt import heartbeat

node = SimpleNamespace(dead_processes=lambda: [("raylet", SimpleNamespace(returncode=-9))])
worker = SimpleNamespace(_global_node=node)
sys.modules["ray"] = SimpleNamespace(_private=SimpleNamespace(worker=worker))
heartbeat.LOOK_S = heartbeat.AGAIN_S = 0.01
heartbeat.set_resume_hint("Stopped. Resume with: this")
signal.pthread_sigmask(signal.SIG_BLOCK, {heartbeat.SIGNAL})
with heartbeat.watched(started=True):
    time.sleep(60)
"""


def test_watched_ends_a_process_that_no_signal_reaches():
    done = subprocess.run([sys.executable, "-c", STUCK], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: Lost Ray: its raylet process ended with -9")
    assert hint == "Stopped. Resume with: this"
