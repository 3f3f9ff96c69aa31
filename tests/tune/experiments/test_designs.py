import pytest

from htt.errors import ConfigError
from tune.experiments.designs import add_one_in, factorial, fractional, leave_one_out, subsets

A = {"a0": {"x": 0}, "a1": {"x": 1}}
B = {"b0": {}, "b1": {"y": 1}}
C = {"c0": {"z": 0}, "c1": {"z": 1}}
PARTS = {"P": {"p": 0}, "Q": {"q": 0, "r": 0}, "S": {"s": 0}}


def test_a_factorial_is_every_combination():
    assert factorial(first=A, second={**B, "b2": {"y": 2}}) == {
        "a0, b0": {"x": 0},
        "a0, b1": {"x": 0, "y": 1},
        "a0, b2": {"x": 0, "y": 2},
        "a1, b0": {"x": 1},
        "a1, b1": {"x": 1, "y": 1},
        "a1, b2": {"x": 1, "y": 2},
    }


def test_half_a_factorial_has_the_product_for_its_third_factor():
    # (-, -) -> +, (-, +) -> -, (+, -) -> -, (+, +) -> +
    assert fractional({"c": ("a", "b")}, a=A, b=B, c=C) == {
        "a0, b0, c1": {"x": 0, "z": 1},
        "a0, b1, c0": {"x": 0, "y": 1, "z": 0},
        "a1, b0, c0": {"x": 1, "z": 0},
        "a1, b1, c1": {"x": 1, "y": 1, "z": 1},
    }


def test_a_fraction_is_balanced_for_every_factor_and_every_pair():
    factors = {name: {f"{name}-": {name: 0}, f"{name}+": {name: 1}} for name in "abcde"}
    made = fractional({"d": ("a", "b"), "e": ("a", "b", "c")}, **factors)
    assert len(made) == 8
    for first in "abcde":
        assert sum(values[first] for values in made.values()) == 4
        for second in "abcde":
            if first < second:
                assert sum(values[first] * values[second] for values in made.values()) == 2


def test_leave_one_out():
    assert leave_one_out(PARTS) == {
        "all parts": {},
        "without P": {"p": 0},
        "without Q": {"q": 0, "r": 0},
        "without S": {"s": 0},
    }


def test_add_one_in():
    assert add_one_in(PARTS) == {
        "no part": {"p": 0, "q": 0, "r": 0, "s": 0},
        "P alone": {"q": 0, "r": 0, "s": 0},
        "Q alone": {"p": 0, "s": 0},
        "S alone": {"p": 0, "q": 0, "r": 0},
    }


def test_subsets():
    assert subsets("cues", ("f", "h")) == {"f": {"cues": ["f"]}, "h": {"cues": ["h"]}, "f + h": {"cues": ["f", "h"]}}
    assert len(subsets("cues", "fho")) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: factorial(a=A, b={"b0": {}}), "two or more levels; b has 1"),
        (lambda: factorial(a=A, b={"b0": {"x": 2}, "b1": {}}), r"a and b change \['x'\]"),
        (lambda: fractional({}, a=A, b={**B, "b2": {}}), "exactly 2 levels; b has 3"),
        (lambda: fractional({"c": ("a", "d")}, a=A, b=B, c=C), "got c = a x d. Free are: a, b."),
        (lambda: fractional({"c": ()}, a=A, b=B, c=C), "product of free ones"),
        (lambda: fractional({"d": ("a",)}, a=A, b=B), "got d = a"),
        (lambda: add_one_in({"P": {"p": 0}, "Q": {"p": 1}}), r"P and Q change \['p'\]"),
    ],
)
def test_variants_that_cannot_be_made_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
