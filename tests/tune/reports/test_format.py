import math

import pytest

from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.reports import format as fmt

ERROR, ACCURACY, AREA = METRICS["hand_error_mm"], METRICS["action_accuracy"], METRICS["hand_auc"]


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        (ERROR, 3.14159, "+3.14 mm"),
        (ERROR, -12.345, "−12.3 mm"),
        (ERROR, 0.001, "0.00 mm"),
        (ACCURACY, 0.0312, "+3.1 points"),
        (ACCURACY, -0.2, "−20.0 points"),
        (ACCURACY, 0.0, "0.0 points"),
        (AREA, 0.01234, "+0.012"),
        (METRICS["loss"], -0.0123456, "−0.0123"),
        (ERROR, math.nan, "–"),
    ],
)
def test_difference_has_sign_and_unit(metric, value, said):
    assert fmt.difference(metric, value) == said


def test_interval_has_its_unit_once():
    assert fmt.difference_span(ERROR, -14.0, -0.5) == "−14.0 to −0.50 mm"
    assert fmt.difference_span(ACCURACY, -0.01, 0.02) == "−1.0 to +2.0 points"
    assert fmt.difference_span(ERROR, math.nan, 1.0) == fmt.span(ERROR, 1.0, math.nan) == "–"
    assert fmt.span(ACCURACY, 0.5, 0.625) == "50.0 to 62.5 %"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (fmt.p_value(0.03125), "0.031"),
        (fmt.p_value(0.0004), "< 0.001"),
        (fmt.p_value(math.nan), "–"),
        (fmt.probability(0.5), "0.50"),
        (fmt.probability(0.0), "< 0.01"),
        (fmt.probability(1.0), "> 0.99"),
        (fmt.duration(4.26), "4.3 s"),
        (fmt.duration(59.6), "60 s"),
        (fmt.duration(125), "2.1 min"),
        (fmt.duration(7300), "2.0 h"),
        (fmt.count(873), "873"),
        (fmt.count(999_600), "1.0 M"),
        (fmt.count(11_700_000), "11.7 M"),
        (fmt.count(123_456), "123 k"),
        (fmt.setting(0.000123456), "0.000123"),
        (fmt.setting(["hands", "object"]), "hands + object"),
        (fmt.setting([0.2, 1.0]), "0.2 to 1"),
        (fmt.setting(None), "none"),
        (fmt.setting(True), "True"),
        (fmt.changes({}), "nothing"),
        (fmt.changes({"model.pose.window": 1, "optim.lr": 1e-3}), "pose.window: 1, optim.lr: 0.001"),
        (plural(1, "seed"), "1 seed"),
        (plural(6, "seed"), "6 seeds"),
    ],
)
def test_numbers_are_rounded_for_readers(said, wanted):
    assert said == wanted


def test_axis_uses_the_largest_fitting_unit():
    assert fmt.measure(119, "seconds") == (1.0, "s")
    assert fmt.measure(120, "seconds") == (60.0, "min")
    assert fmt.measure(2_000_000, "parameters") == (1e6, "M")
    assert fmt.measure(500, "parameters") == (1.0, "")
