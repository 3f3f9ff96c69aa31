"""Where a run is found on this machine: in ``runs``, in a folder that is the storage, or fetched from a bucket."""

import errno
import os
from pathlib import Path

import pytest
from pyarrow import fs

from cluster import lock, storage
from htt.errors import ConfigError, RunError, StorageError
from object_stores import CREDENTIALS, Store
from report_folders import search_folder
from tune.experiments import spec
from tune.results import sync
from tune.results.run_folder import RunFolder
from unrayed import replace_tune


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """A folder that stands for a bucket, with the run "far" in it; here is the run "near"."""
    monkeypatch.setattr(storage, "open_uri", lambda uri: (fs.LocalFileSystem(), uri.replace("mock://", f"{tmp_path}/")))
    monkeypatch.chdir(tmp_path)
    search_folder(tmp_path / "bucket" / "far", 3)
    search_folder(tmp_path / "runs" / "near", 2)


@pytest.mark.parametrize(
    ("uri", "home"),
    [
        (None, "runs"),
        ("s3://bucket/all", "runs"),
        ("/shared/all", "/shared/all"),
        ("file:///shared/all", "/shared/all"),
    ],
)
def test_local_runs_are_in_a_storage_folder_or_runs(uri, home):
    assert spec.home(uri) == Path(home)
    assert sync.Storage("run", Path("runs"), uri).local == Path(home, "run").resolve()


@pytest.mark.parametrize("uri", ["shared", "file://shared"])
def test_locate_finds_a_run_in_a_storage_folder(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    search_folder(tmp_path / "shared" / "run", 2)
    assert len(sync.locate("run", uri).trials()) == 2
    with pytest.raises(RunError, match=r"No run 'rum' in .*/shared/.*Did you mean 'run'"):
        sync.locate("rum", uri)


@pytest.mark.parametrize(("name", "trials"), [("far", 3), ("runs/far", 3), ("near", 2), ("runs/near", 2)])
def test_locate_fetches_a_run_from_a_bucket(bucket, tmp_path, name, trials):
    found = sync.locate(name, "mock://bucket")
    assert found.path.resolve() == tmp_path / "runs" / Path(name).name
    assert len(found.trials()) == trials


def test_locate_of_an_unknown_run_is_one_sentence(bucket, tmp_path):
    with pytest.raises(RunError, match=r"No run 'neer' in runs/.*Did you mean 'near'"):
        sync.locate("neer", "mock://bucket")
    assert [path.name for path in Path("runs").iterdir()] == ["near"]


@pytest.mark.parametrize("typed", ["results", "~/results", "file://{}/results"])
def test_storage_folder_is_normalised(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "results" / "run"
    found = sync.Storage("run", tmp_path / "runs", typed.format(tmp_path))
    assert (found.local, found.uri, found.remote) == (place, str(place), False)
    place.mkdir(parents=True)
    (place / "run.yaml").touch()
    assert sync.locate("run", typed.format(tmp_path)).path == place


def test_storage_password_is_refused_and_not_repeated(tmp_path):
    for give in (lambda uri: sync.Storage("run", tmp_path, uri), lambda uri: sync.locate("run", uri)):
        with pytest.raises(ConfigError, match="--storage must not contain a password") as refused:
            give("s3://KEY:hush@bucket/runs")
        assert "hush" not in str(refused.value)


@pytest.fixture
def two_machines(tmp_path, monkeypatch):
    """The folders of runs of two machines that share a bucket, ``mock://bucket``."""
    (tmp_path / "bucket").mkdir()
    system = fs.SubTreeFileSystem(str(tmp_path / "bucket"), fs.LocalFileSystem())
    open_uri = storage.open_uri
    monkeypatch.setattr(
        storage,
        "open_uri",
        lambda uri: (system, uri.removeprefix("mock://bucket/")) if uri.startswith("mock://") else open_uri(uri),
    )
    monkeypatch.setattr(lock, "SETTLE_S", 0.0)
    return tmp_path / "a", tmp_path / "b"


def in_bucket(tmp_path, name="run"):
    return RunFolder(tmp_path / "bucket" / name)


def test_search_on_two_machines_continues_from_the_newer_copy(two_machines, search, tmp_path, monkeypatch):
    replace_tune(monkeypatch, [])
    a, b = two_machines
    at = {"storage": "mock://bucket", "algorithm": "random"}
    assert len(search(runs=a, trials=2, **at).trials) == 2
    assert len(search(runs=b, trials=5, resume=True, **at).trials) == 5
    assert len(RunFolder(a / "run").trials()) == 2
    assert len(sync.locate("run", "mock://bucket", a).trials()) == 5
    last = search(runs=a, trials=6, resume=True, **at)
    assert [trial.number for trial in last.trials] == [1, 2, 3, 4, 5, 6]
    assert in_bucket(tmp_path).trials() == last.trials == RunFolder(a / "run").trials()


def test_finalists_continue_on_another_machine(two_machines, search, monkeypatch):
    a, b = two_machines
    at = {"storage": "mock://bucket", "algorithm": "random"}
    trained = []
    replace_tune(monkeypatch, trained)
    fixed = {"model.backbone.name": "resnet_tiny", "model.backbone.weights": "rendered",
             "model.backbone.trained": False, "data.augment.views": 0}  # fmt: skip
    asked = {"trials": 2, "scheduler": "none", "finalists": 1, "finalist_start": "scratch", "assignments": fixed, **at}
    search(runs=a, **{**asked, "finalist_seeds": 1})
    assert len(trained) == 2 + 2
    found = sync.locate("run", "mock://bucket", b)
    assert len(RunFolder(found.path / "finalists").trials()) == 2
    again = search(runs=b, resume=True, **{**asked, "finalist_seeds": 2})
    assert len(trained) == 2 + 4
    assert len(RunFolder(b / "run" / "finalists").trials()) == 4
    assert again.best.id in {trial.id for trial in RunFolder(b / "run" / "finalists").trials()} | {
        trial.id for trial in again.trials
    }


def test_run_naming_its_own_bucket_is_read_from_there(two_machines, search, tmp_path, monkeypatch):
    replace_tune(monkeypatch, [])
    a, b = two_machines
    search(runs=a, trials=1, storage="mock://bucket")
    search(runs=b, trials=3, resume=True, storage="mock://bucket")
    assert len(sync.locate("run", None, a).trials()) == 3
    monkeypatch.setattr(sync.Storage, "exists_remotely", lambda *_: (_ for _ in ()).throw(StorageError("It is away.")))
    assert len(sync.locate("run", None, a).trials()) == 3
    with pytest.raises(StorageError, match="It is away"):
        sync.locate("run", "mock://bucket", a)


def test_run_of_another_bucket_is_read_from_its_own(two_machines, search, tmp_path, monkeypatch):
    replace_tune(monkeypatch, [])
    a, b = two_machines
    search(runs=a, trials=1, storage="mock://bucket/first")
    search(runs=b, trials=3, resume=True, storage="mock://bucket/first")
    assert len(sync.locate("run", "mock://bucket/second", a).trials()) == 3


def test_study_on_two_machines_continues_from_the_newer_copy(two_machines, ablate, tmp_path, monkeypatch):
    trained = []
    replace_tune(monkeypatch, trained)
    a, b = two_machines
    variants = {"one": {}, "two": {"optim.momentum": 0.5}}
    at = {"storage": "mock://bucket", "share": False}
    ablate(variants, seeds=(0,), runs=a, **at)
    sync.locate("study", "mock://bucket", b)
    ablate(variants, seeds=(0, 1), runs=b, resume=True, **at)
    sync.locate("study", None, a)
    assert len(RunFolder(a / "study").trials()) == 4
    assert len(ablate(variants, seeds=(0, 1, 2), runs=a, resume=True, **at).trials) == len(trained) == 6


def test_result_missing_in_the_bucket_is_kept_aside(two_machines, tmp_path, capsys):
    a, b = (sync.Storage("run", runs, "mock://bucket") for runs in two_machines)
    a.check()
    search_folder(a.local, 2)
    with a.lock():
        a.push()
    RunFolder(a.local).write_trials(search_folder(tmp_path / "more" / "run", 3).trials())  # and then it was killed
    with b.lock():
        b.pull()
        RunFolder(b.local).write_trials(search_folder(tmp_path / "most" / "run", 5).trials())
        b.push()
    with a.lock():
        a.pull()
    assert len(RunFolder(a.local).trials()) == 5
    (aside,) = a.local.glob("unsent-*")
    assert [len(RunFolder(aside).trials()), [path.name for path in aside.iterdir()]] == [3, ["trials.parquet"]]
    assert "trials.parquet had results that are not in mock://bucket/run; they are kept in" in capsys.readouterr().err


def test_last_writers_unsynced_results_are_kept(two_machines, tmp_path):
    place = sync.Storage("run", two_machines[0], "mock://bucket")
    place.check()
    search_folder(place.local, 2)
    with place.lock():
        place.push()
    RunFolder(place.local).write_trials(search_folder(tmp_path / "more" / "run", 3).trials())
    with place.lock():
        place.pull()
        assert len(RunFolder(place.local).trials()) == 3


def test_file_joined_to_another_is_removed_from_the_bucket(two_machines, tmp_path):
    a, b = (sync.Storage("run", runs, "mock://bucket") for runs in two_machines)
    a.check()
    search_folder(a.local, 2)
    newest = a.local / "trials.jsonl"
    with a.lock():
        newest.write_text("rows that are not in the table yet\n")
        a.push()
        assert (tmp_path / "bucket" / "run" / newest.name).exists()
        newest.unlink()
        a.push()
    b.refresh()
    assert not (tmp_path / "bucket" / "run" / newest.name).exists()
    assert not (b.local / newest.name).exists()


def test_unchanged_file_is_not_sent_again(two_machines, tmp_path, monkeypatch):
    place = sync.Storage("run", two_machines[0], "mock://bucket")
    place.check()
    search_folder(place.local, 2)
    with place.lock():
        place.push()
        sent = []
        monkeypatch.setattr(sync.fs, "copy_files", lambda file, *_, **__: sent.append(file.rpartition("/")[2]))
        RunFolder(place.local).write_trials([])
        place.push()
    assert sent == ["trials.parquet"]


def test_copy_of_a_run_active_elsewhere_is_fetched_each_time(two_machines, tmp_path):
    a, b = (sync.Storage("run", runs, "mock://bucket") for runs in two_machines)
    a.check()
    search_folder(a.local, 1)
    with a.lock():
        for count in (1, 2):
            RunFolder(a.local).write_trials(search_folder(tmp_path / str(count) / "run", count).trials())
            a.push()
            b.refresh()
            assert len(RunFolder(b.local).trials()) == count
        RunFolder(a.local).write_trials(search_folder(tmp_path / "3" / "run", 3).trials())
        a.refresh()  # by another command of this machine
        assert len(RunFolder(a.local).trials()) == 3
    assert not [*b.local.glob("unsent-*")]


def test_driver_of_a_taken_over_run_writes_nothing_more(two_machines, tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "_runs", lambda owner: False)  # it was suspended, and taken for dead
    a, b = (sync.Storage("run", runs, "mock://bucket") for runs in two_machines)
    a.check()
    search_folder(a.local, 2)
    with a.lock():
        a.push()
        with b.lock():
            b.pull()
            RunFolder(b.local).write_trials(search_folder(tmp_path / "more" / "run", 5).trials())
            b.push()
        with pytest.raises(StorageError, match="mock://bucket/run was taken over by process"):
            a.push()
        for stop in (a.push_reports, a.check_lease, lambda: a.remove("tune")):
            with pytest.raises(StorageError, match="writes nothing more there"):
                stop()
    assert len(in_bucket(tmp_path).trials()) == 5


def test_taken_over_search_ends_with_the_reason(two_machines, search, tmp_path, monkeypatch):
    trained = []
    replace_tune(monkeypatch, trained)
    push, theirs = sync.Storage._push, {"machine": "elsewhere", "process": 7, "began": "", "word": "x", "renewed": 0}

    def taken_over(self, names, system, path):
        if len(trained) == 3:
            lock._write(system, f"run/{lock.NAME}", {**lock._DEFAULTS, **theirs})
        push(self, names, system, path)

    monkeypatch.setattr(sync.Storage, "_push", taken_over)
    with pytest.raises(StorageError, match="mock://bucket/run was taken over by process 7 on elsewhere"):
        search(runs=two_machines[0], trials=9, storage="mock://bucket")
    assert len(in_bucket(tmp_path).trials()) == 2
    assert len(trained) == 3


def test_local_run_is_never_replaced_by_one_of_its_name(two_machines, tmp_path):
    search_folder(tmp_path / "bucket" / "run", 3)
    search_folder(two_machines[0] / "run", 2)
    with pytest.raises(RunError, match=r"Two runs have the same name: .* only on this machine, and mock://bucket/run"):
        sync.locate("run", "mock://bucket", two_machines[0])
    assert len(RunFolder(two_machines[0] / "run").trials()) == 2


@pytest.mark.parametrize("name", ["..", "a b", "x" * 300, "ä"])
def test_invalid_name_is_not_looked_up_in_a_bucket(two_machines, tmp_path, name):
    with pytest.raises((ConfigError, RunError)):
        sync.locate(name, "mock://bucket", tmp_path / "a")
    with pytest.raises(RunError, match="No run "):
        sync.locate(name, None, tmp_path / "a")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EIO, "Cannot read or write"),
        (errno.ESTALE, "Cannot read or write"),
        (errno.EMFILE, "Cannot open more files"),
        (errno.ENOSPC, "the disk is full"),
        (errno.ENOENT, None),
        (errno.ECONNRESET, None),
    ],
)
@pytest.mark.parametrize("wrapped", [True, False])
def test_refusal_is_found_behind_cyclic_causes(tmp_path, code, told, wrapped):
    cause = OSError(code, os.strerror(code))
    if wrapped:
        error = RuntimeError("what Tune makes of it")
        cause.__cause__, error.__cause__ = error, cause  # a circle
    place = sync.Storage("run", tmp_path)
    place.local.mkdir()
    with (
        pytest.raises(StorageError if told else type(error if wrapped else cause), match=told),
        place.disk_errors(),
    ):
        raise error if wrapped else cause


def test_missing_run_folder_is_one_sentence(tmp_path):
    place = sync.Storage("run", tmp_path)
    told = "run was removed during its run"
    with pytest.raises(StorageError, match=told), place.disk_errors():
        (place.local / "x").read_text()


def test_two_machines_share_a_bucket_of_a_real_server(tmp_path, monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)
    server = Store(tmp_path).start()
    try:
        a, b = (sync.Storage("run", tmp_path / machine, server.uri("runs")) for machine in ("a", "b"))
        for place, count in ((a, 2), (b, 3), (a, 5)):
            before = RunFolder(place.local)
            place.check()
            with place.lock():
                place.pull()
                assert len(before.trials()) == {2: 0, 3: 2, 5: 3}[count]
                made = search_folder(tmp_path / str(count) / "run", count, storage=server.uri("runs"))
                for file in made.path.iterdir():
                    file.replace(place.local / file.name)
                newest = place.local / "trials.jsonl"
                newest.write_text("rows that are not in the table yet\n")
                place.push()
                newest.unlink()
                place.push_reports()
                place.push()
        assert len(sync.locate("run", None, tmp_path / "b").trials()) == 5
        assert sorted(path.name for path in b.local.glob("[!.]*")) == sorted(
            path.name for path in a.local.glob("[!.]*")
        )
    finally:
        server.kill()
