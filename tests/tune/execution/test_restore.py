"""The checkpoint that a restored trial resumes from if Tune's state and the files differ."""

from pathlib import Path

import pytest
import ray.tune
from ray.train._internal.session import _TrainingResult
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from tune.execution import restore


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
    ("remembered", "there", "resumes_from"),
    [
        (None, [], None),
        (3, [3], 3),
        (3, [3, 4], 3),
        (3, [4], 4),
        (3, [4, 5], 4),
        (3, [], None),
        pytest.param(3, [2], 2, id="two are kept, and somebody removed the newest"),
        (None, [2], 2),
        (None, [1], 1),
        (None, [0, 1], 0),
        pytest.param(None, [0], None, id="the very first may not be whole"),
        pytest.param(99999, [100000], 100000, id="by number, not by name"),
    ],
)
def test_trial_resumes_from_an_existing_whole_checkpoint(tmp_path, remembered, there, resumes_from):
    trial = restored(tmp_path, remembered, there)
    restore.use_newest_checkpoint(trial, epoch=0)
    if resumes_from is None:
        assert trial.checkpoint is None
    else:
        assert Path(trial.checkpoint.path).name == name(resumes_from)
        assert trial.storage.current_checkpoint_index == resumes_from, "the next is written beside it"


def test_other_folders_of_a_trial_are_no_checkpoints(tmp_path):
    trial = restored(tmp_path, None, [])
    for other in ("checkpoints", "checkpoint_", "tensorboard"):
        (Path(trial.storage.trial_fs_path) / other).mkdir(parents=True)
    restore.use_newest_checkpoint(trial, epoch=0)
    assert trial.checkpoint is None


@pytest.mark.parametrize(("noted", "resumes_from"), [(5, 4), (4, 3)])
def test_newest_recorded_checkpoint_is_used(tmp_path, noted, resumes_from):
    trial = restored(tmp_path, 3, [3, 4])
    for number in (3, 4):
        kept = ray.tune.Checkpoint(str(Path(trial.storage.trial_fs_path) / name(number)))
        kept.set_metadata({"metrics": {"epoch": number + 1}})
    restore.use_newest_checkpoint(trial, epoch=noted)
    assert Path(trial.checkpoint.path).name == name(resumes_from)
    assert trial.storage.current_checkpoint_index == resumes_from


def test_checkpoint_before_the_newest_is_kept(tmp_path):
    trial = restored(tmp_path, 3, [4, 5, 6])
    restore.use_newest_checkpoint(trial, epoch=0)
    assert [Path(each.checkpoint.path).name for each in kept(trial)] == [name(4), name(5)]


def kept(trial):
    return trial.run_metadata.checkpoint_manager.best_checkpoint_results
