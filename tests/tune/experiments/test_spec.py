"""What is refused of a question once it is known how many trials run at once."""

import pytest

from htt.errors import ConfigError
from tune.execution import search
from tune.experiments import spec
from tune.experiments.constraints import parse
from tune.experiments.spec import SearchSpec


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
def test_check_latency_refuses_trials_that_measure_beside_one_another(asked):
    judged = searching(**asked).named
    with pytest.raises(ConfigError, match=r"latency_ms must be .* got 3 trials of 2 workers at once\. Add --max-con"):
        spec.check_latency(judged, 2, 3)
    spec.check_latency(judged, 1, 3)
    spec.check_latency(judged, 2, 1)


def test_check_latency_lets_others_be():
    spec.check_latency(searching(constraints=parse(["memory_mb<=5"])).named, 2, 3)
