"""Checks and defaults of the spec of a search."""

import pytest

import tune.experiments.spaces
from htt import registry
from htt.config import Config, override
from htt.errors import ConfigError
from htt.evaluation.metric_table import EARLY
from tune.execution import search
from tune.experiments import checks
from tune.experiments.constraints import parse
from tune.experiments.space import LogUniform, Space
from tune.experiments.spec import SearchSpec, StudySpec
from tune.experiments.study import Study


def searching(**asked):
    return search.SearchExperiment(spec=SearchSpec(**asked), storage=None, resume=False)


@pytest.mark.parametrize(
    "asked",
    [
        {"metric": "latency_ms"},
        {"objectives": ("hand_error_mm", "latency_ms")},
        {"constraints": parse(["latency_ms<=5"])},
        {"objectives": ("hand_error_mm", "action_accuracy"), "pick": "latency_ms<=5"},
    ],
)
def test_check_latency_refuses_concurrent_trials(asked):
    judged = searching(**asked).named
    with pytest.raises(ConfigError, match=r"latency_ms must be .* got 3 trials of 2 workers at once\. Add --max-con"):
        checks.check_latency(judged, 2, 3)
    checks.check_latency(judged, 1, 3)
    checks.check_latency(judged, 2, 1)


def test_check_latency_accepts_other_metrics():
    checks.check_latency(searching(constraints=parse(["memory_mb<=5"])).named, 2, 3)


@pytest.mark.parametrize(
    ("asked", "measured"),
    [
        ({}, False),
        ({"metric": EARLY}, True),
        ({"objectives": ("hand_error_mm", EARLY)}, True),
        ({"constraints": parse([f"{EARLY}>=0.5"])}, True),
        ({"objectives": ("hand_error_mm", "latency_ms"), "pick": f"{EARLY}>=0.5"}, True),
        ({"objectives": ("hand_error_mm", "latency_ms"), "pick": "latency_ms<=5"}, False),
    ],
)
def test_trials_of_a_search_measure_the_early_action_only_if_it_is_asked_for(asked, measured):
    spec = SearchSpec(base=Config().model_dump(mode="json"), **asked)
    assert spec.config().runtime.early_action is measured
    assert searching(base=spec.base, **asked).base == spec.config()
    assert spec.config().fingerprint() == Config().fingerprint()


def test_trials_of_a_study_measure_the_early_action_only_if_it_is_asked_for():
    for metrics, measured in ((("action_accuracy",), False), (("action_accuracy", EARLY), True)):
        study = Study("?", {"a": {}, "b": {"optim.lr": 1e-3}}, "a", metrics=metrics)
        spec = StudySpec(study_name="s", study=study, base=Config().model_dump(mode="json"))
        assert spec.config().runtime.early_action is measured


@pytest.mark.parametrize("metric", ["hand_error_mm", "hand_auc_ra_left", "loss_joints_px"])
def test_check_search_refuses_a_metric_of_a_head_without_loss(metric):
    off = {"base": override(Config(), {"loss.joints_px": 0.0}).model_dump(mode="json")}
    with pytest.raises(ConfigError, match=rf"Cannot select trials by {metric}: the weight loss\.joints_px is 0, so"):
        checks.check_search(SearchSpec(metric=metric, **off))
    checks.check_search(SearchSpec(metric="action_accuracy", **off))
    checks.check_search(SearchSpec(metric=metric, **off, domains={"loss.joints_px": LogUniform(0.1, 1.0)}))


@pytest.mark.parametrize(
    ("space", "asked", "expected"),
    [
        ("quick", {}, 2),
        ("quick", {"trials": 8}, 0),
        ("quick", {"trials": 8, "finalists": 2}, 2),
        ("quick", {"finalists": 0}, 0),
        ("paper", {}, 0),
    ],
)
def test_over_sets_default_of_finalists(space, asked, expected):
    searched = registry.value(tune.experiments.spaces, space, "SPACE", Space)
    assert SearchSpec(space=space, **asked).over(searched, {}).finalists == expected


def test_forecasts_of_other_lengths_are_compared_at_one_time():
    horizon = ["optim.lr", "model.forecast.frames"]
    for metric, instead in (
        ("forecast_error_mm", "forecast_error_200ms_mm"),
        ("forecast_gain_over_kept_mm", "forecast_gain_over_kept_200ms_mm"),
    ):
        said = rf"by {metric}: each has its own model\.forecast\.frames, .* such as {instead}, or fix the frames"
        with pytest.raises(ConfigError, match=said):
            checks.check_comparable([metric], horizon)
        checks.check_comparable([metric], ["optim.lr"])
        checks.check_comparable([instead], horizon)
