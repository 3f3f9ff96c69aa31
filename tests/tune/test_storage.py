"""Where a run is found on this machine: in ``runs``, in a folder that is the storage, or fetched from a bucket."""

from pathlib import Path

import pytest
from pyarrow import fs
from report_folders import search_folder

from htt.errors import ConfigError, RunError
from tune import storage
from tune.question import Run


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
def test_the_runs_of_this_machine_are_in_a_storage_that_is_a_folder_and_else_in_runs(uri, home):
    assert storage.home(uri) == Run(storage=uri).home == Path(home)
    assert storage.Storage("run", Path("runs"), uri).local == Path(home, "run").resolve()


@pytest.mark.parametrize("uri", ["shared", "file://shared"])
def test_a_run_is_found_in_a_folder_that_is_the_storage(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    search_folder(tmp_path / "shared" / "run", 2)
    assert len(storage.locate("run", uri).trials()) == 2
    with pytest.raises(RunError, match=r"A run is named by its folder in .*/shared/; got 'rum'.*Did you mean 'run'"):
        storage.locate("rum", uri)


@pytest.mark.parametrize(("name", "trials"), [("far", 3), ("runs/far", 3), ("near", 2), ("runs/near", 2)])
def test_a_run_that_a_bucket_alone_has_is_fetched(bucket, tmp_path, name, trials):
    found = storage.locate(name, "mock://bucket")
    assert found.path.resolve() == tmp_path / "runs" / Path(name).name
    assert len(found.trials()) == trials


def test_a_run_that_neither_has_is_one_sentence(bucket, tmp_path):
    with pytest.raises(RunError, match=r"A run is named by its folder in runs/; got 'neer'.*Did you mean 'near'"):
        storage.locate("neer", "mock://bucket")
    assert [path.name for path in Path("runs").iterdir()] == ["near"]


@pytest.mark.parametrize("typed", ["results", "~/results", "file://{}/results"])
def test_a_folder_is_the_same_however_it_is_typed(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "results" / "run"
    found = storage.Storage("run", tmp_path / "runs", typed.format(tmp_path))
    assert (found.local, found.uri, found.remote) == (place, str(place), False)
    place.mkdir(parents=True)
    (place / "asked.yaml").touch()
    assert storage.locate("run", typed.format(tmp_path)).path == place


def test_a_password_is_refused_and_not_repeated(tmp_path):
    for give in (lambda uri: storage.Storage("run", tmp_path, uri), lambda uri: storage.locate("run", uri)):
        with pytest.raises(ConfigError, match=r"must hold no password, .* the one of --storage does") as refused:
            give("s3://KEY:hush@bucket/runs")
        assert "hush" not in str(refused.value)
