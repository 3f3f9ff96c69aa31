"""Driver processes for tests that kill them: command lines of ``driver.py``, their output, and waiting."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fake_training import events, place
from project import SUPPORT, environment


class Drivers:
    """The drivers of one test, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[subprocess.Popen] = []

    def __call__(self, *options: object, script: str = "driver.py", env: dict[str, str] | None = None):
        command = [sys.executable, str(SUPPORT / script), *map(str, options)]
        env = {**environment(), "COLUMNS": "200", **(env or {})}
        env.pop("OMP_NUM_THREADS")
        with output_file(self.folder, len(self._started)).open("w") as out:
            process = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, text=True, env=env, cwd=self.folder,
                start_new_session=True, preexec_fn=heed_hangups,
            )  # fmt: skip
        self._started.append(process)
        return process

    def kill(self) -> None:
        """Kill what is left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()


def heed_hangups() -> None:
    """Heed SIGHUP as usual, though the tests may run under ``nohup``."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def output_file(folder: Path, number: int) -> Path:
    return folder / f"output-{number}"


def output(folder: Path, number: int) -> str:
    """Return what the driver with this number printed."""
    return output_file(folder, number).read_text()


def wait_for(
    process: subprocess.Popen, condition: Callable[[], object], folder: Path, seconds: float = 300, number: int = 0
) -> None:
    """Wait until a condition holds; a driver that ends before fails the test with what it said."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"the driver ended or took too long:\n{output(folder, number)}")
        time.sleep(0.05)


def ended(process: subprocess.Popen, folder: Path, number: int, seconds: float = 600) -> str:
    """Return what a driver printed that must end well."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the driver took more than {seconds:g} s:\n{output(folder, number)}")
    assert code == 0, output(folder, number)
    return output(folder, number)


class Notes:
    """Notes of trainings about themselves, in a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def option(self) -> tuple[str, str]:
        """Option of the driver's command line."""
        return "--set", f"runtime.cache={self.path}"

    def all(self) -> list[dict]:
        """Return the events in order."""
        return events(self.path) if place(self.path).exists() else []

    def epochs(self) -> dict[str, list[int]]:
        """Return {trial: epochs that it began, in order}; a worker of several is a trial of its own."""
        begun: dict[str, list[int]] = {}
        for event in self.all():
            if "epoch" in event:
                begun.setdefault(event["trial"], []).append(event["epoch"])
        return begun

    def hold(self, epoch: int) -> None:
        """Make every training wait in an epoch."""
        self.path.mkdir(exist_ok=True)
        (self.path / f"hold-{epoch}").touch()

    def release(self, epoch: int) -> None:
        (self.path / f"hold-{epoch}").unlink()

    def hold_the_second(self, process: subprocess.Popen, epoch: int, folder: Path) -> None:
        """Let the first training end, and make the second wait in an epoch in which all waited before."""

        def reached(trainings: int, last: int) -> bool:
            begun = [epochs[-1] for epochs in self.epochs().values()]
            return len(begun) == trainings and begun[-1] == last

        wait_for(process, lambda: reached(1, epoch), folder)
        self.hold(epoch + 1)
        self.release(epoch)
        wait_for(process, lambda: reached(1, epoch + 1), folder)
        self.hold(epoch)
        self.release(epoch + 1)
        wait_for(process, lambda: reached(2, epoch), folder)

    def pids(self) -> set[int]:
        """Return the processes that have trained."""
        return {event["pid"] for event in self.all() if "pid" in event}

    def pid(self, trial: str) -> int:
        """Return the process that trains a trial now."""
        return [event["pid"] for event in self.all() if event.get("trial") == trial and "pid" in event][-1]
