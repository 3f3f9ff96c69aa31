"""A final training's folder and its log of epochs."""

import errno
import json
import os

import pytest

from cluster import folder
from htt.config import override
from htt.errors import RunError, StorageError
from htt.testing import tiny_config


def test_a_name_is_claimed_once(tmp_path):
    folder.check_folder(tmp_path / "run", tiny_config(), resume=False)
    folder.claim_folder(tmp_path / "run", tiny_config())
    with pytest.raises(RunError, match=r"is taken\. Choose another --name, or --resume it"):
        folder.check_folder(tmp_path / "run", tiny_config(), resume=False)


def test_only_the_same_training_is_resumed(tmp_path):
    config = tiny_config()
    with pytest.raises(RunError, match="needs a run that was started"):
        folder.check_folder(tmp_path / "run", config, resume=True)
    folder.claim_folder(tmp_path / "run", config)
    folder.check_folder(tmp_path / "run", override(config, {"runtime.loader_workers": 2}), resume=True)
    with pytest.raises(RunError, match="holds another configuration"):
        folder.check_folder(tmp_path / "run", override(config, {"optim.lr": 0.5}), resume=True)


def test_two_processes_never_work_on_one_training(tmp_path):
    config = tiny_config()
    folder.claim_folder(tmp_path, config)
    with folder.one_process(tmp_path), pytest.raises(RunError, match=f"taken by process {os.getpid()}"):
        folder.check_folder(tmp_path, config, resume=True)
    folder.check_folder(tmp_path, config, resume=True)


@pytest.mark.parametrize(
    "written", ['{"epochs": [{"epoch": 1', "[1]", '{"epochs": [{"loss": 1.0}]}', '{"epochs": 3}', ""]
)
def test_a_damaged_log_is_named_with_what_to_do(tmp_path, written):
    (tmp_path / "metrics.json").write_text(written)
    with pytest.raises(RunError, match=r"metrics\.json is damaged .* Remove it and resume"):
        folder.EpochLog(tmp_path / "metrics.json")


def test_a_file_system_without_locks_stops_nobody(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(folder.fcntl, "flock", unsupported)
    with folder.one_process(tmp_path):
        assert (tmp_path / folder.LOCK).read_text() == str(os.getpid())


def test_the_log_goes_on_where_it_stood(tmp_path):
    log = folder.EpochLog(tmp_path / "metrics.json")
    log.add({"epoch": 1, "loss": 3.0})
    log.add({"epoch": 2, "loss": 2.0})
    again = folder.EpochLog(tmp_path / "metrics.json")
    again.add({"epoch": 2, "loss": 2.5})  # repeated after a failure
    again.add({"epoch": 3, "loss": 1.0})
    again.finish([{"epoch": 4, "loss": 0.5}], {"loss": 0.5, "test_loss": 1.5})
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert [entry["loss"] for entry in found["epochs"]] == [3.0, 2.5, 1.0, 0.5]
    assert found["final"] == {"loss": 0.5, "test_loss": 1.5}
    assert folder.EpochLog(tmp_path / "metrics.json").final == found["final"]


def test_a_full_disk_loses_no_epoch(tmp_path, monkeypatch):
    log = folder.EpochLog(tmp_path / "metrics.json")
    log.add({"epoch": 1, "loss": 3.0})

    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(StorageError, match="disk is full"):
        log.add({"epoch": 2, "loss": 2.0})
    monkeypatch.undo()
    assert list(folder.EpochLog(tmp_path / "metrics.json").epochs) == [1]
