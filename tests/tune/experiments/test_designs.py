import pytest

from htt.errors import ConfigError
from tune.experiments.designs import factorial, leave_one_out, subsets

A = {"a0": {"x": 0}, "a1": {"x": 1}}
B = {"b0": {}, "b1": {"y": 1}}
PARTS = {"P": {"p": 0}, "Q": {"q": 0, "r": 0}, "S": {"s": 0}}


def test_factorial_is_every_combination():
    assert factorial(first=A, second={**B, "b2": {"y": 2}}) == {
        "a0, b0": {"x": 0},
        "a0, b1": {"x": 0, "y": 1},
        "a0, b2": {"x": 0, "y": 2},
        "a1, b0": {"x": 1},
        "a1, b1": {"x": 1, "y": 1},
        "a1, b2": {"x": 1, "y": 2},
    }


def test_leave_one_out_by_hand():
    assert leave_one_out(PARTS) == {
        "all parts": {},
        "without P": {"p": 0},
        "without Q": {"q": 0, "r": 0},
        "without S": {"s": 0},
    }


def test_subsets_by_hand():
    assert subsets("cues", ("f", "h")) == {"f": {"cues": ["f"]}, "h": {"cues": ["h"]}, "f + h": {"cues": ["f", "h"]}}
    assert len(subsets("cues", "fho")) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: factorial(a=A, b={"b0": {}}), "two or more levels; b has 1"),
        (lambda: factorial(a=A, b={"b0": {"x": 2}, "b1": {}}), r"a and b both change \['x'\]"),
    ],
)
def test_impossible_designs_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
