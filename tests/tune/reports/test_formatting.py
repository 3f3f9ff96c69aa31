import math

import pytest

from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.reports import formatting

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
def test_a_difference_has_its_sign_and_unit(metric, value, said):
    assert formatting.difference(metric, value) == said


def test_an_interval_has_its_unit_once():
    assert formatting.difference_span(ERROR, -14.0, -0.5) == "−14.0 to −0.50 mm"
    assert formatting.difference_span(ACCURACY, -0.01, 0.02) == "−1.0 to +2.0 points"
    assert formatting.difference_span(ERROR, math.nan, 1.0) == formatting.span(ERROR, 1.0, math.nan) == "–"
    assert formatting.span(ACCURACY, 0.5, 0.625) == "50.0 to 62.5 %"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        (formatting.p_value(0.03125), "0.031"),
        (formatting.p_value(0.0004), "< 0.001"),
        (formatting.p_value(math.nan), "–"),
        (formatting.probability(0.5), "0.50"),
        (formatting.probability(0.0), "< 0.01"),
        (formatting.probability(1.0), "> 0.99"),
        (formatting.duration(4.26), "4.3 s"),
        (formatting.duration(59.6), "60 s"),
        (formatting.duration(125), "2.1 min"),
        (formatting.duration(7300), "2.0 h"),
        (formatting.count(873), "873"),
        (formatting.count(999_600), "1.0 M"),
        (formatting.count(11_700_000), "11.7 M"),
        (formatting.count(123_456), "123 k"),
        (formatting.setting(0.000123456), "0.000123"),
        (formatting.setting(["hands", "object"]), "hands + object"),
        (formatting.setting(None), "none"),
        (formatting.setting(True), "True"),
        (formatting.changes({}), "nothing"),
        (formatting.changes({"model.pose.window": 1, "optim.lr": 1e-3}), "pose.window: 1, optim.lr: 0.001"),
        (plural(1, "seed"), "1 seed"),
        (plural(6, "seed"), "6 seeds"),
    ],
)
def test_numbers_are_for_readers(said, wanted):
    assert said == wanted


def test_an_axis_is_in_the_largest_unit_that_fits():
    assert formatting.measure(119, "seconds") == (1.0, "s")
    assert formatting.measure(120, "seconds") == (60.0, "min")
    assert formatting.measure(2_000_000, "parameters") == (1e6, "M")
    assert formatting.measure(500, "parameters") == (1.0, "")
