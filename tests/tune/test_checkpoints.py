"""The checkpoint that a restored trial goes on from, where what Tune remembers and what is there differ."""

from pathlib import Path

import pytest
import ray.tune
from ray.train._internal.session import _TrainingResult
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from tune import checkpoints


def restored(folder, remembered, there):
    """A trial that remembers the checkpoint with this number; on disk are those."""
    storage = StorageContext(str(folder), experiment_dir_name="run", trial_dir_name="trial")
    trial = Trial("training", stub=True, storage=storage)
    for number in there:
        (Path(storage.trial_fs_path) / name(number)).mkdir(parents=True)
    if remembered is not None:
        trial.storage.current_checkpoint_index = remembered - 1
        kept = ray.tune.Checkpoint(f"{storage.trial_fs_path}/{name(remembered)}", storage.storage_filesystem)
        trial.on_checkpoint(_TrainingResult(checkpoint=kept, metrics={}))
    return trial


def name(number):
    return f"checkpoint_{number:06d}"


@pytest.mark.parametrize(
    ("remembered", "there", "goes_on_from"),
    [
        (None, [], None),
        (3, [3], 3),
        (3, [3, 4], 3),
        (3, [4], 4),
        (3, [4, 5], 4),
        (3, [], None),
        (3, [2], None),
        (None, [2], 2),
        (None, [1], 1),
        (None, [0, 1], 0),
        pytest.param(None, [0], None, id="the very first may not be whole"),
        pytest.param(99999, [100000], 100000, id="by number, not by name"),
    ],
)
def test_a_trial_goes_on_from_a_checkpoint_that_is_there_and_whole(tmp_path, remembered, there, goes_on_from):
    trial = restored(tmp_path, remembered, there)
    checkpoints.mend(trial)
    if goes_on_from is None:
        assert trial.checkpoint is None
    else:
        assert Path(trial.checkpoint.path).name == name(goes_on_from)
        assert trial.storage.current_checkpoint_index == goes_on_from, "the next is written beside it"


def test_other_folders_of_a_trial_are_no_checkpoints(tmp_path):
    trial = restored(tmp_path, None, [])
    for other in ("checkpoints", "checkpoint_", "tensorboard"):
        (Path(trial.storage.trial_fs_path) / other).mkdir(parents=True)
    checkpoints.mend(trial)
    assert trial.checkpoint is None
