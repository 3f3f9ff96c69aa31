"""However a search is truncated from outside, it ends in good order, says how to go on, and leaves what it found."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from driven import Notes, output
from project import SUPPORT, environment
from tune.results.run_folder import RunFolder

pytestmark = pytest.mark.ray

ASK = ("--space", "fake", "--trials", 3, "--algorithm", "random", "--scheduler", "none", "--name", "run")
ONE = (*ASK, "--max-concurrent", "1")


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "run")


def below(pid):
    """The processes that a process has started, and they in turn."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return [each for child in children for each in (child, *below(child))]


def core_process(driver, name):
    """The id of a process of Ray's own that a driver started."""
    for child in Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split():
        if name in Path(f"/proc/{child}/comm").read_text():
            return int(child)
    return pytest.fail(f"the driver has no {name}")


def check_cut_short(folder, shown):
    assert "python tune/search.py --resume runs/run" in shown
    assert "Traceback" not in shown
    assert [trial.state for trial in folder.trials()] == ["complete", "stopped"]
    assert folder.best.exists()
    assert folder.report.exists()
    assert "trial   1  complete" in (folder.path / "driver.log").read_text()


SAID_TO_ALL = [signal.SIGUSR1, signal.SIGHUP]
"""SLURM signals all processes of a job before its time ends, and so does a terminal that is closed."""


@pytest.mark.parametrize(
    "number",
    [pytest.param(each, marks=pytest.mark.slow) for each in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP)],
)
def test_signal_ends_a_search_as_interrupted(driver, notes, folder, tmp_path, number):
    notes.hold(2)
    process = driver(*ONE, *notes.option)
    notes.hold_the_second(process, 2, tmp_path)
    everyone = [process.pid, *below(process.pid)]
    for pid in everyone if number in SAID_TO_ALL else everyone[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    assert process.wait(300) == 130, output(tmp_path, 0)
    check_cut_short(folder, output(tmp_path, 0))
    assert "Stopped. To resume: " in output(tmp_path, 0)


@pytest.mark.parametrize("name", ["raylet", pytest.param("gcs_server", marks=pytest.mark.slow)])
def test_dead_ray_ends_a_search_in_good_order(driver, notes, folder, tmp_path, name):
    notes.hold(2)
    process = driver(*ONE, *notes.option)
    notes.hold_the_second(process, 2, tmp_path)
    os.kill(core_process(process, name), signal.SIGKILL)
    assert process.wait(300) == 2, output(tmp_path, 0)
    shown = output(tmp_path, 0)
    assert "error: Lost Ray: its " in shown
    check_cut_short(folder, shown)


@pytest.mark.slow
def test_closed_output_does_not_stop_a_search(notes, folder, tmp_path):
    """As with ``| head -1``, and with a terminal that is gone."""
    command = [sys.executable, str(SUPPORT / "driver.py"), *map(str, ONE), *notes.option]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), cwd=tmp_path
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline().startswith("Starting on")
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(600) == 0, said
    assert said.splitlines() == ["The output was closed; the command continues without it."]
    assert [trial.state for trial in folder.trials()] == ["complete"] * 3
    assert folder.best.exists()
    assert folder.report.exists()
    assert "trial   3  complete" in (folder.path / "driver.log").read_text()
