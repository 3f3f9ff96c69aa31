import math

import pytest

from htt.errors import ConfigError
from tune.experiments.constraints import broken, check_bounds, excesses, parse


def test_constraint_parses_a_bound_on_a_metric():
    size, accuracy = parse(["parameters<=2e6", " action_accuracy >= 0.5 "])
    assert (size.metric, size.at_most, size.bound) == ("parameters", True, 2e6)
    assert (accuracy.metric, accuracy.at_most, accuracy.bound) == ("action_accuracy", False, 0.5)
    assert [size.excess(2e6), size.excess(3e6), size.excess(1e6)] == [0.0, 0.5, -0.5]
    assert [accuracy.excess(0.5), accuracy.excess(0.25)] == [0.0, 0.5]


def test_constraint_text_is_parsed_again():
    asked = parse(["parameters<=2e6", "action_accuracy>=0.5", "latency_ms<=33.333333"])
    assert parse(map(str, asked)) == asked


def test_bound_of_zero_is_measured_absolutely():
    assert parse(["latency_ms<=0"])[0].excess(3.0) == 3.0


def test_broken_states_violations_with_units():
    asked = parse(["parameters<=2e6", "latency_ms<=20", "action_accuracy>=0.5", "memory_mb<=500"])
    kept = {"parameters": 2e6, "latency_ms": 20.0, "action_accuracy": 0.5, "memory_mb": 1.0}
    assert broken(asked, kept) is None
    off = {"parameters": 2.34e6, "latency_ms": 31.0, "action_accuracy": 0.25, "memory_mb": math.nan}
    assert broken(asked, off) == (
        "parameters 2.3 M > 2.0 M, latency_ms 31.0 ms > 20.0 ms, action_accuracy 25.0 % < 50.0 %, "
        "memory_mb is not known"
    )
    assert excesses(asked, {"parameters": 1e6}, missing=1.0)["parameters<=2000000"] == -0.5
    assert excesses(asked, {}, missing=1.0)["memory_mb<=500"] == 1.0


def test_broken_states_a_value_close_to_its_bound_exactly():
    assert broken(parse(["parameters<=1.5e6"]), {"parameters": 1512345.0}) == "parameters 1,512,345 > 1,500,000"


def test_parse_lists_all_invalid_constraints_in_one_error():
    with pytest.raises(ConfigError) as caught:
        parse(["parameters<2e6", "latency<=5", "memory_mb<=much", "loss<=nan"])
    said = str(caught.value)
    assert said.startswith("4 invalid settings")
    for words in (
        "--constraint must be NAME<=NUMBER or NAME>=NUMBER, as in 'parameters<=2e6'; got 'parameters<2e6'",
        "--constraint must bound a metric; got 'latency'",
        "Did you mean 'latency_ms'?",
        "got 'memory_mb<=much'",
        "got 'loss<=nan'",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            ["action_accuracy>=50"],
            "bound action_accuracy within its range, 0 to 1; got action_accuracy>=50. 50 % is",
        ),
        (["hand_auc<=1.5"], "--constraint must bound hand_auc within its range, 0 to 1; got hand_auc<=1.5"),
        (["latency_ms<=-3"], "bound latency_ms within its range, 0 or more; got latency_ms<=-3"),
        (["latency_ms<=10", "latency_ms>=20"], "none satisfies both latency_ms<=10 and latency_ms>=20"),
    ],
)
def test_parse_refuses_bounds_no_trial_can_keep(bounds, message):
    with pytest.raises(ConfigError) as refused:
        check_bounds(parse(bounds))
    assert message in str(refused.value)


def test_parse_accepts_possible_bounds():
    check_bounds(parse(["latency_ms>=10", "latency_ms<=10", "action_accuracy>=1", "parameters<=2e6"]))
