"""Two machines and one run in a bucket, on a real S3 server: one of them works on it."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from cluster import claim, folder, stores
from htt.errors import RunError, StorageError
from htt.testing.stores import CREDENTIALS, Store


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
    """The URI of a run, and where it is; the quickest of owners."""
    for name, value in {"RENEW_S": 0.05, "DEAD_S": 1.0, "SETTLE_S": 0.2, "LOOK_S": 0.1}.items():
        monkeypatch.setattr(claim, name, value)
    place = store.uri(tmp_path.name)
    return place, *stores.open_place(place)


def read(run):
    _, system, path = run
    return claim._read(system, f"{path}/{claim.NAME}")


def write(run, **told):
    _, system, path = run
    claim._write(
        system,
        f"{path}/{claim.NAME}",
        {"machine": "elsewhere", "process": 7, "began": "1", "word": "x", "renewed": 0, **told},
    )


def test_a_claim_is_renewed_and_removed_at_the_end(run):
    assert read(run) is None
    with claim.claimed(*run):
        first = read(run)
        assert first["process"] == os.getpid()
        time.sleep(0.5)
        assert read(run)["renewed"] > first["renewed"]
    assert read(run) is None
    with claim.claimed(*run):
        pass


def test_a_run_that_somebody_works_on_is_refused(run):
    with (
        claim.claimed(*run),
        pytest.raises(
            RunError, match=rf"works on a run; Process {os.getpid()} on .* works on s3://bucket/[^?]*\. Wait for it"
        ),
        claim.claimed(*run),
    ):
        pass


def test_a_machine_elsewhere_that_still_writes_is_refused(run, monkeypatch):
    write(run)
    monkeypatch.setattr("time.sleep", lambda pause_s: write(run, renewed=1))
    with pytest.raises(RunError, match="Process 7 on elsewhere works on"), claim.claimed(*run):
        pass


def test_a_machine_that_is_gone_is_waited_for_and_followed(run, capsys):
    write(run)
    with claim.claimed(*run):
        assert read(run)["process"] == os.getpid()
    assert "Process 7 on elsewhere has worked on this run; looking whether it still does" in capsys.readouterr().err


def test_a_process_of_this_machine_that_is_gone_is_followed_at_once(run, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    write(run, machine=claim.socket.gethostname(), process=ended.pid)
    monkeypatch.setattr(claim, "DEAD_S", 1e9)
    with claim.claimed(*run):
        assert read(run)["process"] == os.getpid()


def test_another_process_with_the_number_of_one_that_is_gone_stops_nobody(run):
    write(run, machine=socket.gethostname(), process=os.getpid(), began="1")
    with claim.claimed(*run):
        assert read(run)["word"] != "x"


def test_of_two_that_claim_at_once_the_second_has_it(run, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda pause_s: write(run))
    with pytest.raises(RunError, match="Process 7 on elsewhere works on"), claim.claimed(*run):
        pass
    assert read(run)["process"] == 7


def test_who_was_taken_for_dead_leaves_the_claim_of_the_next(run, capsys):
    with claim.claimed(*run):
        write(run)
        time.sleep(0.5)
    assert read(run)["process"] == 7
    assert "Process 7 on elsewhere has taken this run over" in capsys.readouterr().err


def test_what_is_no_claim_stops_nobody(run):
    _, system, path = run
    with system.open_output_stream(f"{path}/{claim.NAME}") as stream:
        stream.write(json.dumps(["?"]).encode())
    with claim.claimed(*run):
        assert read(run)["process"] == os.getpid()


def test_a_bucket_that_is_not_there_is_one_sentence(store):
    place = store.uri("run", bucket="none")
    with pytest.raises(StorageError, match="--storage must be"), claim.claimed(place, *stores.open_place(place)):
        pass


def test_two_folders_of_one_name_have_one_claim_in_a_bucket_and_none_in_a_folder(run, store, tmp_path):
    with folder.alone(tmp_path / "here" / "x", store.uri("runs")):
        with (
            pytest.raises(RunError, match="works on s3://bucket/runs/x"),
            folder.alone(tmp_path / "there" / "x", store.uri("runs")),
        ):
            pass
        with folder.alone(tmp_path / "there" / "y", str(tmp_path / "storage")):
            assert not (tmp_path / "storage").exists()
