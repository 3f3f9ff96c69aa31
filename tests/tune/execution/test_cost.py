"""The guess of a study's time: what is counted, with a clock that ticks once a look, and how it is said."""

import dataclasses
import itertools
from functools import partial

import pytest

from htt.config import override
from htt.data.loading.loader import EvaluationLoader, TrainingLoader
from htt.errors import ConfigError
from htt.testing import tiny_config
from htt.training.tasks import open_splits
from planned_study import STUDY, ablation, finished
from tune import ablate
from tune.execution import cost, plan, study_progress
from tune.experiments.machines import Machines

ASKED = partial(
    ablate.command,
    ablate.Options(
        study="which", preset="paper", set=["data.root=/data/h2o", "a=[1, 2]"], seeds="6", dry_run=True, share=False,
        machines=Machines(cpus_per_worker=2.0),
    ),
)  # fmt: skip
"""What was typed."""


@pytest.fixture
def ticking(monkeypatch):
    """A clock that is a second later whenever it is asked."""
    ticks = itertools.count()
    monkeypatch.setattr(cost, "monotonic", lambda: float(next(ticks)))


@pytest.mark.parametrize("steps", [1, 100])
def test_every_step_and_every_validation_batch_of_all_epochs_is_counted(ticking, tiny_splits, steps):
    config = override(tiny_config(), {"train.epochs": 3})
    step_count = TrainingLoader(open_splits(config).train, config).steps_per_epoch
    batch_count = len(EvaluationLoader(open_splits(config).val, config))
    assert cost.training_seconds(config, steps) == 3 * (step_count + batch_count)


def test_the_first_is_left_out_where_there_are_more():
    assert cost._each([0.0, 9.0, 10.0, 12.0, 15.0]) == 2.0
    assert cost._each([0.0, 9.0]) == 9.0


@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_tell_nothing(steps):
    with pytest.raises(ConfigError, match=f"--time-steps must be 1 or more; got {steps}"):
        cost.check_steps(steps)


def test_variants_are_timed_of_which_none_has_ended(tmp_path, monkeypatch, capsys):
    asked = ablation(tmp_path, max_concurrent=1)
    finished(tmp_path, STUDY.config(override(asked.base, STUDY.base), "b", 1))
    known = plan.plan(asked)
    monkeypatch.setattr(cost, "training_seconds", lambda config, steps, threads: 100.0 * steps * threads)
    told = []
    made = plan.timed(known, 2, told.append)
    assert told == ["a"]
    assert made.guessed == {"a": 200.0}
    assert made.expected_s == 2 * 200.0 + 30.0
    study_progress.show_plan(made, ASKED)
    said = capsys.readouterr().out
    assert (
        "About 7.2 min on this machine, 1 at once: an estimate (3.3 min a training by a few timed steps, 30 s by"
        in said
    )
    assert "Starting up, checkpoints, and trainings that slow one another down are not in it." in said


def test_where_nothing_has_ended_the_plan_says_how_to_guess(tmp_path, capsys):
    made = plan.plan(ablation(tmp_path))
    study_progress.show_plan(made, ASKED)
    said = capsys.readouterr().out
    assert "How long that takes is not known" in said
    whole = "python tune/ablate.py --study which --preset paper --set data.root=/data/h2o --set 'a=[1, 2]'"
    assert f"give a guess: {whole} --seeds 6 --dry-run --time-steps 3 --no-share --cpus-per-worker 2.0\n" in said
    assert f"One seed tells: {whole} --seeds 1 --no-share --cpus-per-worker 2.0\n" in said
    study_progress.show_plan(dataclasses.replace(made, guessed={"a": 60.0, "b": 60.0}), ASKED)
    assert "an estimate (60 s a training by a few timed steps)" in capsys.readouterr().out


def test_of_a_study_that_goes_on_one_seed_tells_nothing_new(tmp_path, capsys):
    options = ablate.Options(resume="runs/run", seeds="8", dry_run=True)
    study_progress.show_plan(plan.plan(ablation(tmp_path, resume=True)), partial(ablate.command, options))
    said = capsys.readouterr().out
    assert "give a guess: python tune/ablate.py --seeds 8 --dry-run --time-steps 3 --resume runs/run\n" in said
    assert "One seed tells" not in said


def test_data_that_differ_are_each_made_ready_and_windows_are_not_data(tmp_path):
    variants = {
        "base": {},
        "spacing": {"data.spacing": 2},
        "longer": {"data.synthetic.frames": 12},
        "longer, 1 frame": {"data.synthetic.frames": 12, "model.pose.window": 1},
    }
    study = dataclasses.replace(STUDY, variants=variants, reference="base")
    found = plan.data(study, ablation(tmp_path, study).base)
    assert [config.data.synthetic.frames for config in found] == [8, 12]
