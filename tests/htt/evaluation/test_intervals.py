"""Intervals: the published formula, and that they hold what they promise."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from htt.evaluation import intervals
from htt.evaluation.sums import SPACES, ClipSums, Joints, thresholds_mm

Z = 1.959963984540054


def sums_of(error_mm: np.ndarray) -> ClipSums:
    """Clips of one frame and one hand, all joints with the same error; objects are right where it is below 10."""
    clips = len(error_mm)
    spaces = {}
    for space in SPACES:
        joints = 20 if space else 21
        each = np.repeat(error_mm[:, None, None], joints, axis=2)
        hits = each[..., None] <= thresholds_mm(1, space)
        spaces[space] = Joints(each, np.ones_like(each), hits.astype(float))
    objects = np.stack([error_mm < 10, np.ones(clips)], axis=1)
    votes = np.tile([1.0, 0.0], (clips, 1))
    return ClipSums(1, np.arange(clips), np.zeros(clips, int), votes, votes, np.ones(clips), objects, spaces)


@pytest.mark.parametrize(("right", "total"), [(209, 242), (110, 122), (541, 575), (0, 5), (5, 5), (1, 2)])
def test_wilson_is_the_published_formula(right: int, total: int) -> None:
    share = right / total
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    reach = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    low, high = intervals.wilson(right, total)
    assert low == pytest.approx(max(middle - reach, 0), abs=1e-9)
    assert high == pytest.approx(min(middle + reach, 1), abs=1e-9)


def test_the_interval_of_the_papers_accuracy() -> None:
    """Hand-computed: 209 of 242 is 86.4 %, and could as well be 81.5 or 90.1 %."""
    low, high = intervals.wilson(209, 242)
    assert (round(100 * low, 1), round(100 * high, 1)) == (81.5, 90.1)


def test_difference_of_two_proportions_is_newcombes_published_example() -> None:
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 is 0.2, 95 % 0.0524 to 0.3339."""
    low, high = intervals.difference(56, 70, 48, 80)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_clips_that_are_alike_leave_no_doubt() -> None:
    sums = sums_of(np.full(7, 12.5))
    found = intervals.bootstrap(sums, intervals.draws(sums))
    assert found["hand_error_mm"] == pytest.approx((12.5, 12.5))
    assert found["object_accuracy"] == (0, 0)


def test_one_clip_says_nothing_of_others() -> None:
    sums = sums_of(np.array([3.0]))
    assert intervals.bootstrap(sums, intervals.draws(sums)) == {}
    assert intervals.bands(sums, intervals.draws(sums)) == {}


def test_every_drawing_has_as_many_clips_and_is_the_same_each_time() -> None:
    sums = sums_of(np.arange(9.0))
    weights = intervals.draws(sums, resamples=50)
    assert (weights.sum(axis=1) == 9).all()
    np.testing.assert_array_equal(weights, intervals.draws(sums, resamples=50))


def test_what_no_draw_knows_has_no_interval() -> None:
    sums = sums_of(np.arange(4.0))
    sums.spaces["_ra"].count[:] = 0
    sums.objects[:] = 0
    found = intervals.bootstrap(sums, intervals.draws(sums, resamples=50))
    assert "hand_error_mm" in found
    assert not {"hand_error_ra_mm", "hand_auc_ra", "object_accuracy"} & set(found)
    assert "hand_auc_ra" not in intervals.bands(sums, intervals.draws(sums, resamples=50))


def test_bands_hold_the_curve() -> None:
    sums = sums_of(np.linspace(0, 60, 30))
    curve = sums.curves(np.ones((1, 30)))["hand_auc"].fraction[0]
    low, high = intervals.bands(sums, intervals.draws(sums))["hand_auc"]
    assert (low <= curve).all()
    assert (curve <= high).all()
    assert (high - low).max() > 0.1


def test_the_true_mean_is_in_95_of_100_intervals() -> None:
    """300 data sets of 60 clips: as many intervals miss the truth as 5 % can, within the binomial's 99.9 %."""
    random = np.random.default_rng(0)
    tries, truth = 300, 20.0
    held = 0
    for _ in range(tries):
        sums = sums_of(random.gamma(4.0, truth / 4.0, 60))
        low, high = intervals.bootstrap(sums, intervals.draws(sums, resamples=400))["hand_error_mm"]
        held += low <= truth <= high
    expected = binom(tries, 0.94)  # a percentile interval of 60 clips is a little short
    assert expected.ppf(0.0005) <= held <= expected.ppf(0.9995)
