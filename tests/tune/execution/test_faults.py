"""Faults that kill for real, from outside.

No finished trial is lost or counted twice, a running one repeats an epoch at most, and the numbers are those of a run
that nobody disturbed.

What a killed driver of a study leaves, and of a search with wishes, is in ``test_interruptions``.
"""

import functools
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from driven import Drivers, Notes, ended, output, wait_for
from object_stores import CREDENTIALS, Gate, Store
from tune.results.run_folder import RunFolder
from unrayed import replace_tune

pytestmark = pytest.mark.ray

TRIALS = 3
ASK = ("--space", "fake", "--trials", TRIALS, "--algorithm", "random", "--scheduler", "none", "--max-concurrent", "1")
"""What is tried depends on the seed alone."""
SLOW = ("--set", "optim.step_epochs=1000")
"""Milliseconds that an epoch of the stand-in takes."""
OUTAGE_S = 30.0
ROOM_BYTES = 2 * 2**30
"""As much as a search wants to begin with; nothing takes it."""


def told(folder):
    """What a run found, without names and times."""
    return [
        (trial.number, trial.values, trial.state, trial.epochs, trial.metrics, trial.curve, trial.best)
        for trial in folder.trials()
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, search_in):
    """What the search finds that nobody disturbs: without Ray, since nothing is lost there."""
    search = search_in(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        replace_tune(patch, [])
        outcome = search(trials=TRIALS, algorithm="random", scheduler="none")
    return told(outcome.folder)


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path / "notes")


def saved_since(folder, moment):
    """Whether Tune has saved what it knows of the trials after a moment."""
    return any(path.stat().st_mtime > moment for path in (folder / "runs/run/tune").glob("experiment_state-*.json"))


def alive(pid):
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Killed:
    """A search whose driver was killed in epoch 3 of its second trial, as often as it is needed."""

    def __init__(self, folder):
        self.folder, self.notes = folder / "search", Notes(folder / "search" / "notes")
        self.copy = folder / "copy"
        self.folder.mkdir()
        drivers = Drivers(self.folder)
        try:
            self._kill(drivers)
        finally:
            drivers.kill()

    def _kill(self, drivers):
        self.notes.hold(3)
        process = drivers(*ASK, *self.notes.option, "--name", "run")
        self.notes.hold_the_second(process, 3, self.folder)
        wait_for(process, functools.partial(saved_since, self.folder, time.time()), self.folder)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        deadline = time.monotonic() + 300
        while any(map(alive, self.notes.pids())) and time.monotonic() < deadline:
            time.sleep(0.05)  # workers outlive their driver by seconds
        self.notes.release(3)
        shutil.copytree(self.folder, self.copy, symlinks=True)

    def run(self):
        """Return the run as it was after the kill."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder, symlinks=True)
        return RunFolder(self.folder / "runs" / "run")

    def resume(self):
        """Resume the run; return what was said."""
        drivers = Drivers(self.folder)
        try:
            return ended(drivers("--resume", "run"), self.folder, 0)
        finally:
            drivers.kill()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    return Killed(tmp_path_factory.mktemp("killed"))


def test_killed_driver_repeats_an_epoch_at_most(killed, undisturbed):
    folder = killed.run()
    killed.resume()
    assert told(folder) == undisturbed
    whole, cut, last = killed.notes.epochs().values()
    assert (whole, last) == ([1, 2, 3, 4], [1, 2, 3, 4])
    assert cut in ([1, 2, 3, 3, 4], [1, 2, 3, 2, 3, 4]), "one epoch, and the one that was cut short"


@pytest.mark.slow
def test_trial_resumes_before_a_damaged_checkpoint(killed, undisturbed):
    folder = killed.run()
    (cut,) = killed.notes.epochs().keys() - {trial.id for trial in folder.trials()}
    kept = sorted((folder.path / "tune" / cut).glob("checkpoint_*"))
    assert len(kept) == 2
    (kept[-1] / "state.json").write_text('{"epo')
    said = killed.resume()
    assert f"Trial 2: {kept[-1]} is not used: Its state is spoilt." in said.replace("\n", "")
    assert told(folder) == undisturbed
    assert killed.notes.epochs()[cut] == [1, 2, 3, 2, 3, 4]


def test_killed_worker_resumes_from_its_last_epoch(driver, notes, undisturbed, tmp_path):
    notes.hold(3)
    process = driver(*ASK, *notes.option, "--name", "run")
    notes.hold_the_second(process, 3, tmp_path)
    cut = list(notes.epochs())[-1]
    os.kill(notes.pid(cut), signal.SIGKILL)
    notes.release(3)
    said = ended(process, tmp_path, 0)
    folder = RunFolder(tmp_path / "runs" / "run")
    assert told(folder) == undisturbed
    epochs = notes.epochs()
    assert [epochs.pop(cut), *epochs.values()] == [[1, 2, 3, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]
    assert "Traceback" not in said


@pytest.mark.slow
def test_killed_worker_of_several_resumes_from_the_checkpoint(driver, notes, undisturbed, tmp_path):
    one = ("--space", "fake", "--trials", 1, "--algorithm", "random", "--scheduler", "none", "--name", "run")
    process = driver(*one, *SLOW, *notes.option, "--workers-per-trial", 2, "--cpus-per-worker", 1)
    wait_for(process, lambda: len(begun := notes.epochs()) == 2 and min(map(max, begun.values())) == 3, tmp_path)
    second = next(name for name in notes.epochs() if name.endswith("rank-1"))
    os.kill(notes.pid(second), signal.SIGKILL)
    said = ended(process, tmp_path, 0)
    assert told(RunFolder(tmp_path / "runs" / "run")) == undisturbed[:1]
    assert {name[-6:] for name in notes.epochs()} == {"rank-0", "rank-1"}
    for epochs in notes.epochs().values():
        assert epochs in ([1, 2, 3, 3, 4], [1, 2, 3, 2, 3, 4]), "one epoch, and the one that was cut short"
    assert "Traceback" not in said


@pytest.fixture
def gate(tmp_path_factory, monkeypatch):
    """A gate to an S3 server of this machine."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = Store(tmp_path_factory.mktemp("store")).start()
    gate = Gate(store.port).start()
    gate.uri = store.uri("runs", port=gate.port)
    yield gate
    gate.kill()
    store.kill()


def held(notes, trainings):
    """Whether that many wait in epoch 2."""
    return [epochs[-1] for epochs in notes.epochs().values()] == [2] * trainings


@pytest.mark.slow
def test_storage_outage_of_half_a_minute_costs_nothing(driver, undisturbed, gate, tmp_path):
    """While trials of one worker and of two write checkpoints to it."""
    notes = [Notes(tmp_path / f"notes-{number}") for number in range(2)]
    several = ("--trials", 1, "--workers-per-trial", 2, "--cpus-per-worker", 0.5)
    for each in notes:
        each.hold(2)
    searches = [
        driver(*ASK, *each.option, "--name", f"run-{number}", "--storage", gate.uri, *(several if number else ()))
        for number, each in enumerate(notes)
    ]
    for number, process in enumerate(searches):
        wait_for(process, functools.partial(held, notes[number], 1 + number), tmp_path, 300, number)
    gate.kill()
    for each in notes:
        each.release(2)
    time.sleep(OUTAGE_S)
    assert [process.poll() for process in searches] == [None, None]
    gate.start()
    for number, process in enumerate(searches):
        said = ended(process, tmp_path, number)
        assert said.count("does not answer; trying again for 100 s.") == 1, said
        assert "Traceback" not in said
        trials = told(RunFolder(tmp_path / "runs" / f"run-{number}"))
        assert trials == undisturbed[: 1 if number else TRIALS]
    begun = [epochs for each in notes for epochs in each.epochs().values()]
    assert begun == [[1, 2, 3, 4]] * (TRIALS + 2)


@pytest.fixture
def disk(tmp_path):
    """A disk for the runs, whose size is changed by its value."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    place = tmp_path / "runs"
    place.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    made = mount(f"size={ROOM_BYTES}")
    if made.returncode:
        pytest.skip(f"this machine mounts no disk: {made.stderr.strip()}")
    yield lambda size: mount(f"remount,size={size}").returncode == 0
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def used(place):
    """Bytes of a disk."""
    there = os.statvfs(place)
    return (there.f_blocks - there.f_bfree) * there.f_frsize


@pytest.mark.slow
def test_full_disk_ends_a_search_that_can_be_resumed(driver, notes, undisturbed, disk, tmp_path):
    notes.hold(2)
    first = driver(*ASK, *notes.option, "--name", "run")
    notes.hold_the_second(first, 2, tmp_path)
    folder = RunFolder(tmp_path / "runs" / "run")
    before = folder.trials()
    assert len(before) == 1
    wait_for(first, lambda: disk(used(folder.path)), tmp_path)
    notes.release(2)
    assert first.wait(300) == 2, output(tmp_path, 0)
    said = output(tmp_path, 0)
    assert said.count("error:") == 1, said
    assert "the disk is full" in said
    assert "Traceback" not in said
    assert folder.trials()[:1] == before
    assert [trial.state for trial in folder.trials()[1:]] in ([], ["stopped"]), "room for one more row, or none"
    assert disk(ROOM_BYTES)
    ended(driver("--resume", "run"), tmp_path, 1)
    assert folder.trials()[:1] == before
    assert told(folder) == undisturbed


@pytest.mark.slow
def test_two_searches_of_one_name_are_refused(driver, notes, undisturbed, tmp_path):
    """At once, whichever comes first; and later, as the same or to go on with it."""
    notes.hold(2)
    both = [driver(*ASK, *notes.option, "--name", "run") for _ in range(2)]
    refused = first_to_end(both)
    first = both[1 - refused]
    check_refused(both[refused], refused, f"is in use by process {first.pid}", tmp_path)
    wait_for(first, notes.epochs, tmp_path, number=1 - refused)
    check_refused(driver(*ASK, "--name", "run"), 2, "is a run already", tmp_path)
    check_refused(driver("--resume", "run"), 3, f"is in use by process {first.pid}", tmp_path)
    notes.release(2)
    ended(first, tmp_path, 1 - refused)
    assert told(RunFolder(tmp_path / "runs" / "run")) == undisturbed
    assert list(notes.epochs().values()) == [[1, 2, 3, 4]] * TRIALS


def first_to_end(processes, seconds=300):
    """Its number."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for number, process in enumerate(processes):
            if process.poll() is not None:
                return number
        time.sleep(0.05)
    pytest.fail("neither of the two was refused")


def check_refused(process, number, reason, folder):
    assert process.wait(300) == 2, output(folder, number)
    said = output(folder, number)
    assert said.count("error:") == 1, said
    assert reason in said
    assert "Starting on" not in said, "before a Ray is started"
