"""Storage of results: URIs that a user may type, and requests to the storage."""

from pathlib import Path

import pytest

from cluster import storage
from htt.errors import ConfigError, StorageError
from object_stores import CREDENTIALS, Store


@pytest.mark.parametrize(
    ("typed", "absolute"),
    [
        ("results", "{here}/results"),
        ("../other/", "{above}/other"),
        ("~/results", "{home}/results"),
        ("file:///there/results", "/there/results"),
        ("/there/results", "/there/results"),
        ("s3://bucket/runs?region=eu-west-1", "s3://bucket/runs?region=eu-west-1"),
    ],
)
def test_absolute_uri_resolves_paths_and_keeps_uris(tmp_path, monkeypatch, typed, absolute):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    places = {"here": tmp_path, "above": tmp_path.parent, "home": Path("/home/somebody")}
    assert storage.absolute_uri(typed) == absolute.format(**places)


def test_absolute_uri_refuses_password_without_repeating_it():
    with pytest.raises(ConfigError, match="--storage must not contain a password") as refused:
        storage.absolute_uri("s3://KEY:hush@bucket/runs")
    assert "hush" not in str(refused.value)


@pytest.fixture(params=["folder", "bucket"])
def place(request, tmp_path, monkeypatch):
    if request.param == "folder":
        yield str(tmp_path / "runs")
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = Store(tmp_path).start()
    yield store.uri("runs")
    store.kill()


def test_write_text_replaces_file_in_folder_and_bucket(place):
    file = storage.join_uri(place, "first", "config.yaml")
    assert storage.read_text(file) is None
    assert not storage.list_names(storage.join_uri(place, "first"))
    storage.write_text(file, "a: 1\n")
    storage.write_text(file, "ä: 2\n")
    assert storage.read_text(file) == "ä: 2\n"
    assert storage.list_names(storage.join_uri(place, "first"))
    assert not storage.list_names(storage.join_uri(place, "fir"))


def test_request_retries_and_warns_once(monkeypatch, capsys):
    answers = iter([OSError("curlCode: 7"), OSError("curlCode: 7"), "there"])

    def work(system, path):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr("time.sleep", lambda pause: None)
    assert storage.request("/runs", work) == "there"
    assert capsys.readouterr().err.count("Storage /runs does not answer; trying again for 100 s.") == 1


def test_request_reports_unreachable_storage(monkeypatch):
    def work(system, path):
        raise OSError("curlCode: 7")

    monkeypatch.setattr(storage, "PATIENCE_S", 0.0)
    with pytest.raises(StorageError, match=r"must be a writable folder or URI; /runs failed: curlCode: 7\."):
        storage.request("/runs", work)
