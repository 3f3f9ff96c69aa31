"""A trial whose newest checkpoint is damaged goes on from the one before, and says so."""

from types import SimpleNamespace

import pytest
import ray.tune
from pyarrow import fs

from htt.errors import DamagedCheckpointError
from htt.training.older import listed, older
from tune.execution import trainable


def test_older_returns_checkpoints_of_lower_numbers(tmp_path):
    for name in ("checkpoint_999999", "checkpoint_1000000", "checkpoint_1000001", "other"):
        (tmp_path / name).mkdir()
    local = fs.LocalFileSystem()
    assert listed(str(tmp_path), local) == ["checkpoint_999999", "checkpoint_1000000", "checkpoint_1000001"]
    assert older(str(tmp_path / "checkpoint_1000001"), local) == [
        str(tmp_path / "checkpoint_1000000"), str(tmp_path / "checkpoint_999999"),
    ]  # fmt: skip


@pytest.mark.parametrize(("damaged", "used"), [((), 2), ((2,), 1), ((2, 1), 0), ((2, 1, 0), None)])
def test_trial_resumes_from_the_newest_whole_checkpoint(tmp_path, monkeypatch, damaged, used):
    places = [tmp_path / f"checkpoint_{number:06d}" for number in range(3)]
    for number, place in enumerate(places):
        place.mkdir()
        (place / "state").write_text("damaged" if number in damaged else "whole")
    kept = ray.tune.Checkpoint.from_directory(str(places[2]))
    reported, began = [], []
    monkeypatch.setattr(trainable, "use_assigned", lambda: None)
    monkeypatch.setattr(trainable.ray.tune, "get_checkpoint", lambda: kept)
    monkeypatch.setattr(trainable.ray.tune, "report", lambda metrics, checkpoint=None: reported.append(metrics))
    monkeypatch.setattr(trainable, "_folder", lambda job: tmp_path)

    def train(config, folder, report, resume):
        if resume and (resume / "state").read_text() == "damaged":
            raise DamagedCheckpointError(f"{resume.name} has another sum.")
        began.append(resume)
        report({"epoch": 4.0, "loss": 1.0}, None)
        report({"epoch": 5.0, "loss": 1.0}, None)

    job = trainable.Job(base={}, metric="loss", folder=None, storage="")
    trainable.train_in_process(SimpleNamespace(train=train), job, {"values": {}})
    assert began == [None if used is None else places[used]]
    assert [each["epoch"] for each in reported] == [4.0, 5.0]
    notes = [each["note"] for each in reported if "note" in each]
    assert len(notes) == (1 if damaged else 0)
    if damaged:
        assert notes[0].startswith(
            f"{places[min(damaged)]} is not used: checkpoint_00000{min(damaged)} has another sum."
        )
    assert "note" not in reported[1]


def test_trial_without_a_whole_checkpoint_states_its_own_error(tmp_path):
    def train(_resume):
        raise DamagedCheckpointError("The weights of the encoder are damaged.")

    with pytest.raises(DamagedCheckpointError, match="encoder"):
        trainable._train_from_newest(train, None, tmp_path, [])
