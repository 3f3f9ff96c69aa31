"""Where a run's files are, as a user may type it."""

import pytest

from htt.errors import ConfigError
from tune.storage import Storage, locate


@pytest.mark.parametrize("typed", ["results", "~/results", "file://{}/results"])
def test_a_folder_is_the_same_however_it_is_typed(tmp_path, monkeypatch, typed):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    place = tmp_path / "results" / "run"
    storage = Storage("run", tmp_path / "runs", typed.format(tmp_path))
    assert (storage.local, storage.uri, storage.remote) == (place, str(place), False)
    place.mkdir(parents=True)
    (place / "asked.yaml").touch()
    assert locate("run", typed.format(tmp_path)).path == place


def test_a_password_is_refused_and_not_repeated(tmp_path):
    for give in (lambda uri: Storage("run", tmp_path, uri), lambda uri: locate("run", uri)):
        with pytest.raises(ConfigError, match=r"must hold no password, .* the one of --storage does") as refused:
            give("s3://KEY:hush@bucket/runs")
        assert "hush" not in str(refused.value)
