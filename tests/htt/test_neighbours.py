"""Trainings of one machine: while one measures, the others wait between two of their steps."""

import contextlib
import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from htt import neighbours
from htt.evaluation import cost
from htt.group import Group
from htt.neighbours import Neighbours
from htt.testing import tiny_config
from htt.training import tasks

ROOT = Path(__file__).resolve().parents[2]
BUSY = """
import sys, time
from pathlib import Path
from htt.neighbours import Neighbours
with Neighbours(Path(sys.argv[1])) as others:
    while True:
        others.between_steps()
        with open(sys.argv[2], "a") as file:
            file.write(f"{time.monotonic()} ")
            time.sleep(0.02)
            file.write(f"{time.monotonic()}\\n")
"""


def steps(file):
    """(began, ended) of each step that is whole."""
    lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
    return [tuple(map(float, line)) for line in lines if len(line) == 2]


@pytest.fixture
def busy(tmp_path):
    """Three neighbours in processes of their own, at work."""
    files = [tmp_path / f"steps-{number}" for number in range(3)]
    started = [
        subprocess.Popen([sys.executable, "-c", BUSY, tmp_path / "cache", file], cwd=ROOT) for file in files
    ]  # fmt: skip
    deadline = time.monotonic() + 120
    while not all(map(steps, files)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield files, started
    for process in started:
        process.kill()
        process.wait()


def test_neighbours_take_no_step_while_one_measures(busy, tmp_path):
    files, _ = busy
    with Neighbours(tmp_path / "cache") as here:
        for _ in range(3):
            with here.waiting():
                began = time.monotonic()
                time.sleep(0.2)
                ended = time.monotonic()
            counts = [len(steps(file)) for file in files]
            for file in files:
                assert not [step for step in steps(file) if step[0] < ended and step[1] > began]
            here.between_steps()
            deadline = time.monotonic() + 60
            while any(len(steps(file)) <= count for file, count in zip(files, counts, strict=True)):
                assert time.monotonic() < deadline, "they must go on"
                time.sleep(0.01)


def test_neighbours_that_are_killed_are_not_waited_for(busy, tmp_path):
    _, started = busy
    for process in started:
        process.kill()
        process.wait()
    began = time.monotonic()
    with Neighbours(tmp_path / "cache") as here, here.waiting():
        assert time.monotonic() - began < neighbours.WAIT_S / 4


def test_neighbours_that_hang_are_waited_for_so_long_only(tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "WAIT_S", 0.2)
    with Neighbours(tmp_path), Neighbours(tmp_path) as here, here.waiting():
        pass


def test_neighbours_work_without_a_lockable_folder(tmp_path):
    (tmp_path / "file").touch()
    with Neighbours(tmp_path / "file") as here, here.waiting():
        here.between_steps()


def test_work_queued_on_a_gpu_ends_before_another_measures(tmp_path, monkeypatch):
    said = []
    with Neighbours(tmp_path) as here, (tmp_path / ".measuring-turn").open("wb") as turn:
        group = Group(device=torch.device("cuda"), neighbours=here)

        def synchronize(device):
            said.append(device.type)
            fcntl.flock(turn, fcntl.LOCK_UN)  # the other has measured

        monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
        group.between_steps()
        assert said == [], "nobody measures"
        fcntl.flock(turn, fcntl.LOCK_EX)
        group.between_steps()
        assert said == ["cuda"]


def test_train_measures_its_latency_while_the_neighbours_wait(tmp_path, monkeypatch):
    config = tiny_config(**{"runtime.cache": str(tmp_path), "train.epochs": 1})
    said, waiting = [], Neighbours.waiting

    @contextlib.contextmanager
    def noted(self):
        with waiting(self):
            said.append("they wait")
            yield
        said.append("they go on")

    monkeypatch.setattr(Neighbours, "waiting", noted)
    monkeypatch.setattr(Neighbours, "between_steps", lambda *_: said.append("step"))
    monkeypatch.setattr(cost, "latency_ms", lambda *_: said.append("latency") or 7.0)
    tasks.train(config, tmp_path / "run", lambda metrics, _: said.append(metrics["latency_ms"]))
    steps = [each for each in said if each == "step"]
    assert len(steps) > 2, "of training and validation"
    assert said == [*steps, "they wait", "latency", "they go on", 7.0]
