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
from planned_study import STUDY, finished, study_spec
from tune import ablate
from tune.execution import cost, plan, study_progress
from tune.execution.study import StudyExperiment
from tune.experiments.spec import StudyOptions

ASKED = partial(
    ablate.command,
    ablate.Options(
        study="which", preset="paper", set=["data.root=/data/h2o", "a=[1, 2]"], seeds="6", dry_run=True,
        spec=StudyOptions(cpus_per_worker=2.0, share=False),
    ),
)  # fmt: skip
"""What was typed."""


@pytest.fixture
def ticking(monkeypatch):
    """A clock that is a second later whenever it is asked."""
    ticks = itertools.count()
    monkeypatch.setattr(cost, "monotonic", lambda: float(next(ticks)))


@pytest.mark.parametrize("steps", [1, 100])
def test_cost_counts_all_training_and_validation_steps(ticking, tiny_splits, steps):
    config = override(tiny_config(), {"train.epochs": 3})
    step_count = TrainingLoader(open_splits(config).train, config).steps_per_epoch
    batch_count = len(EvaluationLoader(open_splits(config).val, config))
    assert cost.training_seconds(config, steps) == 3 * (step_count + batch_count)


def test_timing_leaves_out_the_first_step():
    assert cost._each([0.0, 9.0, 10.0, 12.0, 15.0]) == 2.0
    assert cost._each([0.0, 9.0]) == 9.0


@pytest.mark.parametrize("steps", [0, -1])
def test_check_steps_refuses_less_than_one(steps):
    with pytest.raises(ConfigError, match=f"--time-steps must be 1 or more; got {steps}"):
        cost.check_steps(steps)


def test_timing_covers_variants_without_a_finished_training(tmp_path, monkeypatch, capsys):
    spec = study_spec(max_concurrent=1)
    finished(tmp_path, STUDY.config(override(spec.config(), STUDY.base), "b", 1))
    known = plan.plan(spec, runs=tmp_path)
    monkeypatch.setattr(cost, "training_seconds", lambda config, steps, threads: 100.0 * steps * threads)
    told = []
    made = plan.timed(known, 2, told.append)
    assert told == ["a"]
    assert made.estimated == {"a": 200.0}
    assert made.expected_s == 2 * 200.0 + 30.0
    study_progress.show_plan(made, ASKED)
    said = capsys.readouterr().out
    assert (
        "About 7.2 min on this machine, 1 at once: an estimate (3.3 min per training by a few timed steps, 30 s by"
        in said
    )
    assert "It leaves out startup, checkpoints, and trainings that slow each other down." in said


def test_plan_of_unknown_duration_suggests_timing_or_one_seed(tmp_path, capsys):
    made = plan.plan(study_spec(), runs=tmp_path)
    study_progress.show_plan(made, ASKED)
    said = capsys.readouterr().out
    assert "Duration unknown: no such training has ended here yet." in said
    whole = "python tune/ablate.py --study which --preset paper --set data.root=/data/h2o --set 'a=[1, 2]'"
    assert f"each variant: {whole} --seeds 6 --dry-run --time-steps 3 --cpus-per-worker 2.0 --no-share\n" in said
    assert f"Or train one seed first: {whole} --seeds 1 --cpus-per-worker 2.0 --no-share\n" in said
    study_progress.show_plan(dataclasses.replace(made, estimated={"a": 60.0, "b": 60.0}), ASKED)
    assert "an estimate (60 s per training by a few timed steps)" in capsys.readouterr().out


def test_plan_of_a_resumed_study_suggests_no_single_seed(tmp_path, capsys):
    options = ablate.Options(resume="runs/run", seeds="8", dry_run=True)
    made = plan.plan(study_spec(name="run"), runs=tmp_path, resume=True)
    study_progress.show_plan(made, partial(ablate.command, options))
    said = capsys.readouterr().out
    assert "each variant: python tune/ablate.py --resume runs/run --seeds 8 --dry-run --time-steps 3\n" in said
    assert "train one seed first" not in said


def test_study_prepares_each_distinct_data_set(tmp_path):
    variants = {
        "base": {},
        "spacing": {"data.spacing": 2},
        "longer": {"data.synthetic.frames": 12},
        "longer, 1 frame": {"data.synthetic.frames": 12, "model.pose.window": 1},
    }
    study = dataclasses.replace(STUDY, variants=variants, reference="base")
    made = plan.plan(study_spec(study), runs=tmp_path)
    experiment = StudyExperiment(spec=made.spec, storage=None, resume=False, plan=made)
    assert [config.data.synthetic.frames for config in experiment.data] == [8, 12]
