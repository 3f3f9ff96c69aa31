"""A training that saves itself within an epoch, and goes on from there as if nothing had been."""

import itertools
import shutil

import pytest
import torch

from htt.config import AugmentConfig, override
from htt.data.loading.loader import Assembler
from htt.data.loading.windows import training_windows
from htt.group import Group
from htt.testing import tiny_config
from htt.training import checkpoint
from htt.training.loop import fit
from htt.training.saving import Saving

ALIKE = {f"data.augment.{name}": 0.0 for name in AugmentConfig.model_fields if name != "views"} | {
    "optim.name": "sgd",
    "optim.lr": 1e-3,
}
"""What several workers and one have in common."""


class StoppedError(Exception):
    """Raised where a machine would be gone."""


def never():
    return False


def train(config, splits, folder, **how):
    """The metrics of every epoch but for times, and the weights at the end."""
    reports = []
    fit(config, splits, lambda metrics, saved: reports.append(metrics), folder=folder, **how)
    numbers = [{k: v for k, v in each.items() if "seconds" not in k and k != "latency_ms"} for each in reports]
    return numbers, checkpoint.load(folder / "checkpoint")[0].state_dict()


def stop_in_a_step(config, splits, folder, steps, resume=None):
    """Train until so many steps are done, each of them saved."""
    kept = []

    def keep(saved):
        kept.append(saved)
        if len(kept) == steps:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(config, splits, folder, resume=resume, saving=Saving(keep, never, every_s=0.0))
    return checkpoint.read(kept[-1]).progress


@pytest.mark.parametrize("steps", [1, 5, 11])
def test_resume_within_an_epoch_changes_no_number(tiny_splits, tmp_path, steps):
    config = tiny_config(**{"train.epochs": 3, "model.pose.dropout": 0.2, "optim.schedule": "cosine"})
    whole, weights = train(config, tiny_splits, tmp_path / "whole")
    progress = stop_in_a_step(config, tiny_splits, tmp_path / "part", steps)
    assert progress.cursor > 0
    done = len(progress.extra["epochs"])
    assert progress.epoch == done
    again, resumed = train(config, tiny_splits, tmp_path / "part", resume=tmp_path / "part" / "checkpoint")
    assert again == whole[done:]
    for name, value in weights.items():
        assert torch.equal(value, resumed[name]), name


def test_one_worker_resumes_a_training_of_two(two_workers, tiny_splits, tmp_path):
    config = tiny_config(**{"train.batch_size": 3, "train.seed": 1, **ALIKE})  # see test_fit_on_two_workers_equals_one
    whole, weights = train(config, tiny_splits, tmp_path / "whole")
    two_workers(config, tmp_path, stop_after=2)
    progress = checkpoint.read(tmp_path / "checkpoint").progress
    assert (progress.epoch, progress.cursor) == (0, 6)
    again, resumed = train(config, tiny_splits, tmp_path, resume=tmp_path / "checkpoint")
    assert len(again) == len(whole)
    for here, there in zip(again, whole, strict=True):
        assert here == pytest.approx(there, rel=1e-3)
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_linear_rule_makes_two_workers_one_of_double_batch(two_workers, tiny_splits, tmp_path):
    config = tiny_config(**{"train.batch_size": 2, "train.scaling": "linear", **ALIKE})
    together = two_workers(config, tmp_path).state_dict()
    twice = override(config, {"train.batch_size": 4, "optim.lr": 2e-3})
    _, alone = train(twice, tiny_splits, tmp_path / "alone")
    _, other = train(config, tiny_splits, tmp_path / "other")
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(together[name], value, rtol=1e-4, atol=1e-6) for name, value in other.items())


def test_cursor_in_windows_repeats_none_for_other_workers(two_workers, tiny_splits, tmp_path):
    """By the linear rule a step of one worker has half the windows."""
    config = tiny_config(**{"train.batch_size": 2, "train.scaling": "linear", **ALIKE})
    two_workers(config, tmp_path, stop_after=1)
    assert checkpoint.read(tmp_path / "checkpoint").progress.cursor == 4
    shutil.copytree(tmp_path / "checkpoint", tmp_path / "kept")
    cursors = []

    def keep(saved):
        cursors.append(checkpoint.read(saved).progress.cursor)

    saving = Saving(keep, never, every_s=0.0)
    train(config, tiny_splits, tmp_path / "on", resume=tmp_path / "kept", saving=saving)
    assert cursors[:2] == [6, 8]


@pytest.mark.parametrize("batches", [(6, 4, 6), (4, 6, 2), (2, 3, 2)])
def test_epoch_trains_each_window_once_for_changing_workers(tiny_splits, tmp_path, monkeypatch, batches):
    """Three workers, then two, then three, by the linear rule with a batch of 2: their steps divide no cursor."""
    trained, assemble = [], Assembler.__call__

    def recorded(self, chosen, pool=None):
        if self.clips is tiny_splits.train:
            trained.extend(chosen.tolist())
        return assemble(self, chosen, pool)

    monkeypatch.setattr(Assembler, "__call__", recorded)
    config, cursors = tiny_config(**{"train.epochs": 1, **ALIKE}), []
    for stage, batch in enumerate(batches):
        changed = override(config, {"train.batch_size": batch})
        resume = tmp_path / f"{stage - 1}" / "checkpoint" if stage else None
        place = tmp_path / f"{stage}"
        if stage < len(batches) - 1:
            cursors.append(stop_in_a_step(changed, tiny_splits, place, 1, resume=resume).cursor)
        else:
            train(changed, tiny_splits, place, resume=resume)
    windows = len(training_windows(tiny_splits.train.frame_counts, config))
    assert cursors == [batches[0], batches[0] + batches[1]]
    assert len(trained) == len(set(trained))
    assert windows - batches[-1] < len(trained) <= windows, "what does not fill a last step waits"


def test_saving_is_due_by_time_or_preemption_notice(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    asked = []

    def noticed():
        asked.append(clock[0])
        return clock[0] == 10.0

    saving = Saving(lambda _: None, noticed, every_s=14.0)
    due = []
    for second in range(30):
        clock[0] = float(second)
        if saving.due(Group()):
            due.append(second)
    assert asked == [5.0, 10.0, 15.0, 20.0, 25.0]
    assert due == [10, 24]


def test_fast_workers_synchronise_about_once_a_second(monkeypatch):
    clock, agreed = [0.0], []

    class Counted(Group):
        def sum(self, values):
            agreed.append(clock[0])
            return values

    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    saving, due = Saving(lambda _: None, never, every_s=60.0), []
    for step in range(12_000):  # of 10 ms, and of 50 ms from the middle on
        clock[0] += 0.01 if step < 6000 else 0.05
        if saving.due(Counted()):
            due.append(clock[0])
    waits = [later - sooner for sooner, later in itertools.pairwise(agreed)]
    assert max(waits) < 6.0
    assert sorted(waits)[len(waits) // 2] == pytest.approx(1.0, abs=0.1)
    assert all(60.0 <= later - sooner < 66.0 for sooner, later in itertools.pairwise([0.0, *due]))
    assert len(due) == 5
