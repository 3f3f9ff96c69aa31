"""Lease of a run in a bucket, on a real S3 server: one machine at a time works on the run."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from cluster import lock, run_folder, storage
from htt.errors import RunError, StorageError
from htt.testing import tiny_config
from object_stores import CREDENTIALS, Store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server = Store(tmp_path_factory.mktemp("store")).start()
        yield server
        server.kill()


@pytest.fixture
def run(store, tmp_path, monkeypatch):
    """URI of a run with its file system and path; leases have short intervals."""
    for name, value in {"RENEW_S": 0.05, "DEAD_S": 1.0, "SETTLE_S": 0.2, "LOOK_S": 0.1}.items():
        monkeypatch.setattr(lock, name, value)
    place = store.uri(tmp_path.name)
    return place, *storage.open_uri(place)


def read(run):
    _, system, path = run
    return lock._read(system, f"{path}/{lock.NAME}")


def write(run, **told):
    _, system, path = run
    lock._write(
        system,
        f"{path}/{lock.NAME}",
        {"machine": "elsewhere", "process": 7, "began": "1", "word": "x", "renewed": 0, **told},
    )


def test_lease_is_renewed_and_removed_at_the_end(run):
    assert read(run) is None
    with lock.leased(*run):
        first = read(run)
        assert first["process"] == os.getpid()
        deadline = time.monotonic() + 60
        while read(run)["renewed"] == first["renewed"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert read(run)["renewed"] > first["renewed"]
    assert read(run) is None
    with lock.leased(*run):
        pass


def test_lease_of_a_run_in_use_is_refused(run):
    with (
        lock.leased(*run),
        pytest.raises(RunError, match=rf"s3://bucket/[^?]* is in use by process {os.getpid()} on .*\. Wait for it"),
        lock.leased(*run),
    ):
        pass


def test_lease_renewed_by_another_machine_is_refused(run, monkeypatch):
    write(run)
    monkeypatch.setattr("time.sleep", lambda pause_s: write(run, renewed=1))
    with pytest.raises(RunError, match="in use by process 7 on elsewhere"), lock.leased(*run):
        pass


def test_expired_lease_of_another_machine_is_taken_after_waiting(run, capsys):
    write(run)
    with lock.leased(*run):
        assert read(run)["process"] == os.getpid()
    assert "The run was last used by process 7 on elsewhere; watching for 1 s whether" in capsys.readouterr().err


def test_lease_of_ended_local_process_is_taken_at_once(run, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write(run, machine="any", process=ended.pid, host=lock._host())
    monkeypatch.setattr(lock, "DEAD_S", 1e9)
    with lock.leased(*run):
        assert read(run)["process"] == os.getpid()


def test_lease_with_reused_process_number_is_taken(run, monkeypatch):
    monkeypatch.setattr(lock, "DEAD_S", 1e9)
    write(run, process=os.getpid(), began="1", host=lock._host())
    with lock.leased(*run):
        assert read(run)["word"] != "x"


def test_second_of_two_simultaneous_leases_wins(run, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda pause_s: write(run))
    with pytest.raises(RunError, match="in use by process 7 on elsewhere"), lock.leased(*run):
        pass
    assert read(run)["process"] == 7


@pytest.mark.parametrize("hosts_name", [True, False])
def test_lease_of_container_with_same_host_name_is_watched(run, monkeypatch, hosts_name):
    """Containers may share a host name, so a process number of this machine says nothing about such an owner."""
    number = os.getpid() if hosts_name else 2**22 + 1  # a running process of this machine, or none
    theirs = {"machine": socket.gethostname(), "process": number, "began": "1", "host": "boot pid:[1]"}
    write(run, **theirs)
    monkeypatch.setattr("time.sleep", lambda pause_s: write(run, **theirs, renewed=1))
    with pytest.raises(RunError, match=r"s3://.* is in use by"), lock.leased(*run):
        pass
    assert read(run)["word"] == "x"


def test_lease_writes_nothing_after_takeover(run):
    lost = threading.Event()
    with lock.leased(*run, on_loss=lost.set) as lease:
        lease.publish()
        assert any(write(run) or lost.wait(0.5) for _ in range(200))  # a renewal under way may overwrite the first
        with pytest.raises(StorageError, match=r"s3://bucket/\S* was taken over by process 7 on elsewhere"):
            lease.publish()
        with pytest.raises(StorageError, match="writes nothing more there"):
            lease.check()
    assert (read(run)["process"], read(run)["ended"]) == (7, False)


@pytest.fixture
def interruptible():
    """Enable Ctrl-C, which a shell disables for background processes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_lease_run_interrupts_training_after_takeover(run, store, tmp_path, interruptible):
    here = tmp_path / run[2].rpartition("/")[2]

    def train():
        with run_folder.lease_run(here, store.uri("")) as lease:
            run_folder.write_folder(here, tiny_config(), lease=lease)
            for _ in range(300):
                write(run)
                time.sleep(0.2)

    with pytest.raises(StorageError, match=r"s3://\S* was taken over by process 7 on elsewhere"):
        train()
    assert read(run)["process"] == 7


def test_lease_stays_lost_after_takeover_and_release(run, monkeypatch):
    monkeypatch.setattr(lock, "RENEW_S", 1e9)  # a process that was suspended
    monkeypatch.setattr(lock, "_runs", lambda owner: False)
    with lock.leased(*run) as sleeper:
        sleeper.publish()
        with lock.leased(*run) as other:
            other.publish()
        with pytest.raises(StorageError, match="was taken over by"):
            sleeper.publish()
    assert read(run)["generation"] == other.word
    assert read(run)["ended"]


def test_generation_is_that_of_the_last_writer(run, monkeypatch):
    _, system, path = run
    words = []
    for writes in (True, False, True):
        with lock.leased(*run) as lease:
            if writes:
                lease.publish()
                words.append(lease.word)
        assert lock.generation(system, path) == words[-1]
    assert len(set(words)) == 2


def test_invalid_lease_is_ignored(run):
    _, system, path = run
    with system.open_output_stream(f"{path}/{lock.NAME}") as stream:
        stream.write(json.dumps(["?"]).encode())
    with lock.leased(*run):
        assert read(run)["process"] == os.getpid()


def test_leased_reports_missing_bucket(store):
    place = store.uri("run", bucket="none")
    with pytest.raises(StorageError, match="--storage must be"), lock.leased(place, *storage.open_uri(place)):
        pass


def test_lease_run_has_one_owner_in_bucket_and_shared_folder(run, store, tmp_path):
    with run_folder.lease_run(tmp_path / "here" / "x", store.uri("runs")):
        with (
            pytest.raises(RunError, match="s3://bucket/runs/x is in use by"),
            run_folder.lease_run(tmp_path / "there" / "x", store.uri("runs")),
        ):
            pass
        with (
            run_folder.lease_run(tmp_path / "here" / "y", str(tmp_path / "storage")),
            pytest.raises(RunError, match="storage/y is in use by process"),
            run_folder.lease_run(tmp_path / "there" / "y", str(tmp_path / "storage")),
        ):
            pass
