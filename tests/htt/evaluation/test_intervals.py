"""Intervals: the published formula, and that they hold what they promise."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from htt.evaluation import intervals
from htt.evaluation.sums import SPACES, ClipSums, Joints, thresholds_mm

Z = 1.959963984540054
PAIRED = [f"pair{clip // 2}" if clip < 28 else f"lone{clip}" for clip in range(36)]
"""Groups of the default benchmark's validation clips: 28 of 36 are pairs."""


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


def in_pairs(random: np.random.Generator, tries: int, correlation: float = 0.96) -> np.ndarray:
    """[tries 36] standard normal values that correlate within each pair of ``PAIRED``."""
    shared = random.normal(size=(tries, 22))[:, intervals.numbered(PAIRED)]
    return correlation**0.5 * shared + (1 - correlation) ** 0.5 * random.normal(size=(tries, 36))


@pytest.mark.parametrize(("right", "total"), [(209, 242), (110, 122), (541, 575), (0, 5), (5, 5), (1, 2)])
def test_wilson_equals_the_published_formula(right: int, total: int) -> None:
    share = right / total
    middle = (share + Z**2 / (2 * total)) / (1 + Z**2 / total)
    reach = Z / (1 + Z**2 / total) * math.sqrt(share * (1 - share) / total + Z**2 / (4 * total**2))
    low, high = intervals.wilson(right, total)
    assert low == pytest.approx(max(middle - reach, 0), abs=1e-9)
    assert high == pytest.approx(min(middle + reach, 1), abs=1e-9)


@pytest.mark.parametrize("total", [1, 36, 122, 575])
def test_wilson_of_whole_numbers_equals_scipy(total: int) -> None:
    for right in range(total + 1):
        expected = scipy.stats.binomtest(right, total).proportion_ci(0.95, method="wilson")
        assert intervals.wilson(right, total) == (float(expected.low), float(expected.high))


def test_wilson_of_the_papers_accuracy_by_hand() -> None:
    """Hand-computed: 209 of 242 is 86.4 %, and could as well be 81.5 or 90.1 %."""
    low, high = intervals.wilson(209, 242)
    assert (round(100 * low, 1), round(100 * high, 1)) == (81.5, 90.1)


def test_newcombe_equals_the_published_example() -> None:
    """Newcombe 1998, table II, method 10: 56/70 less 48/80 is 0.2, 95 % 0.0524 to 0.3339."""
    low, high = intervals.difference(56, 70, 48, 80)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)


def test_bootstrap_of_equal_clips_has_no_width() -> None:
    sums = sums_of(np.full(7, 12.5))
    found = intervals.bootstrap(sums, intervals.draws(sums))
    assert found["hand_error_mm"] == pytest.approx((12.5, 12.5))
    assert found["object_accuracy"] == (0, 0)


def test_bootstrap_of_one_clip_has_no_interval() -> None:
    sums = sums_of(np.array([3.0]))
    assert intervals.bootstrap(sums, intervals.draws(sums)) == {}
    assert intervals.bands(sums, intervals.draws(sums)) == {}


def test_bootstrap_draws_as_many_clips_reproducibly() -> None:
    sums = sums_of(np.arange(9.0))
    weights = intervals.draws(sums, resamples=50)
    assert (weights.sum(axis=1) == 9).all()
    np.testing.assert_array_equal(weights, intervals.draws(sums, resamples=50))


def test_bootstrap_without_known_draws_has_no_interval() -> None:
    sums = sums_of(np.arange(4.0))
    sums.spaces["_ra"].count[:] = 0
    sums.objects[:] = 0
    found = intervals.bootstrap(sums, intervals.draws(sums, resamples=50))
    assert "hand_error_mm" in found
    assert not {"hand_error_ra_mm", "hand_auc_ra", "object_accuracy"} & set(found)
    assert "hand_auc_ra" not in intervals.bands(sums, intervals.draws(sums, resamples=50))


def test_curve_bands_contain_the_curve() -> None:
    sums = sums_of(np.linspace(0, 60, 30))
    curve = sums.curves(np.ones((1, 30)))["hand_auc"].fraction[0]
    low, high = intervals.bands(sums, intervals.draws(sums))["hand_auc"]
    assert (low <= curve).all()
    assert (curve <= high).all()
    assert (high - low).max() > 0.1


def test_bootstrap_covers_95_percent_of_true_means() -> None:
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


def test_bootstrap_of_single_clip_groups_is_unchanged() -> None:
    sums, own = sums_of(np.random.default_rng(0).gamma(4.0, 5.0, 36)), [f"clip{clip}" for clip in range(36)]
    weights = intervals.draws(sums, own)
    np.testing.assert_array_equal(weights, intervals.draws(sums))
    found = intervals.bootstrap(sums, weights, own)
    assert found == intervals.bootstrap(sums, weights)
    assert found["hand_error_mm"] == pytest.approx((16.941716048230212, 23.217212534869162), rel=1e-12)
    assert found["object_accuracy"] == pytest.approx((1 / 36, 0.25), rel=1e-12)
    band = intervals.bands(sums, weights, own)["hand_auc"]
    np.testing.assert_array_equal(band, intervals.bands(sums, weights)["hand_auc"])
    np.testing.assert_allclose(band[:, 8], [14 / 36, 26 / 36], rtol=1e-12)
    assert intervals.effective(np.arange(36) < 26, own) == 36
    assert intervals.wilson(26, 36) == pytest.approx((0.560075100026029, 0.8415166205986538), rel=1e-12)


@pytest.mark.parametrize(
    ("correct", "groups", "expected"),
    [
        # Variance between pairs: (1^2 + 1^2) / (4 x 0.5 x 0.5) = 2 times that of four independent clips.
        pytest.param([1, 1, 0, 0], "aabb", 2.0, id="copies"),
        pytest.param([1, 0, 0, 1], "aabb", 4.0, id="opposites, never more than there are"),
        pytest.param([1, 1, 1, 1], "aabb", 2.0, id="all right"),
        pytest.param([0, 0, 0, 0], "aaab", 1.6, id="all wrong: 4 / ((9 + 1) / 4)"),
        # Share 0.6, deviations 0.8 in a, -1.2 in b, 0.4 in c: (0.64 + 1.44 + 0.16) / (5 x 0.24) = 1.8667.
        pytest.param([1, 1, 0, 0, 1], "aabbc", 5 * 1.2 / 2.24, id="two sizes"),
        pytest.param([1, 0, 1], "abc", 3.0, id="alone"),
        pytest.param([1], "a", 1.0, id="one"),
        pytest.param([1, 0, 1], "aaa", math.nan, id="one group"),
    ],
)
def test_effective_number_by_hand(correct: list[int], groups: str, expected: float) -> None:
    assert intervals.effective(np.array(correct), list(groups)) == pytest.approx(expected, nan_ok=True)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), min_size=1, max_size=12), st.randoms())
def test_effective_number_ignores_the_order_of_clips(clips: list[tuple[str, bool]], random) -> None:
    def number(each: list[tuple[str, bool]]) -> float:
        return intervals.effective(np.array([right for _, right in each]), [group for group, _ in each])

    mixed = random.sample(clips, len(clips))
    assert number(mixed) == pytest.approx(number(clips), nan_ok=True)
    groups = len({group for group, _ in clips})
    assert math.isnan(number(clips)) == (groups == 1 < len(clips))
    assert groups == 1 or 1 <= number(clips) <= len(clips)


def test_bootstrap_draws_a_group_as_a_whole() -> None:
    sums, groups = sums_of(np.arange(5.0)), ["a", "b", "a", "c", "a"]
    weights = intervals.draws(sums, groups, resamples=50)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, (0, 1, 3)].sum(axis=1) == 3).all()
    assert {*weights[:, 0]} >= {0, 1, 2}


@given(st.permutations(range(6)), st.permutations(range(3)))
def test_bootstrap_ignores_order_within_groups(order: list[int], others: list[int]) -> None:
    groups = ["a"] * 6 + ["b"] * 3 + ["c"] * 4
    error_mm = np.random.default_rng(0).gamma(4.0, 5.0, 13)
    first, second = sums_of(error_mm), sums_of(error_mm[[*order, *(6 + each for each in others), 9, 10, 11, 12]])
    weights = intervals.draws(first, groups, resamples=60)
    expected, found = (intervals.bootstrap(each, weights, groups) for each in (first, second))
    for name, interval in expected.items():
        assert found[name] == pytest.approx(interval, rel=1e-9), name
    bands = [intervals.bands(each, weights, groups)["hand_auc"] for each in (first, second)]
    np.testing.assert_allclose(*bands, rtol=1e-9)


def test_bootstrap_of_one_group_has_no_interval() -> None:
    sums, groups = sums_of(np.arange(4.0)), ["a"] * 4
    weights = intervals.draws(sums, groups, resamples=20)
    assert intervals.bootstrap(sums, weights, groups) == {}
    assert intervals.bands(sums, weights, groups) == {}


@pytest.mark.parametrize("shape", ["normal", "gamma"])
@pytest.mark.parametrize("grouped", [True, False])
def test_group_bootstrap_covers_95_percent_of_errors(shape: str, grouped: bool) -> None:
    """600 splits of clips in pairs that correlate by 0.96; intervals over clips are too narrow."""
    values, truth = in_pairs(np.random.default_rng(3), 600), 20.0
    deviates = scipy.stats.norm.cdf(values)
    error_mm = 20 + 5 * values if shape == "normal" else scipy.stats.gamma.ppf(deviates, 4.0, scale=truth / 4)
    groups, held = PAIRED if grouped else [], 0
    weights = intervals.draws(one_joint(error_mm[0]), groups, resamples=500)
    for each in error_mm:
        low, high = intervals.bootstrap(one_joint(each), weights, groups)["hand_error_mm"]
        held += low <= truth <= high
    assert (0.92 <= held / 600 <= 0.98) == grouped
    assert grouped or held / 600 < 0.88


@pytest.mark.parametrize("truth", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("grouped", [True, False])
def test_group_wilson_covers_95_percent_of_accuracies(truth: float, grouped: bool) -> None:
    """3,000 splits of clips in pairs, right or wrong by a value that correlates by 0.96."""
    held = 0
    for correct in in_pairs(np.random.default_rng(4), 3000) < scipy.stats.norm.ppf(truth):
        number = intervals.effective(correct, PAIRED if grouped else [])
        low, high = intervals.wilson(correct.mean() * number, number)
        held += low <= truth <= high
    assert (0.92 <= held / 3000 <= 0.98) == grouped
    assert grouped or held / 3000 < 0.9


def one_joint(error_mm: np.ndarray) -> ClipSums:
    """Clips of one frame with one joint, of which no hits are counted, so that many are resampled in a second."""
    each = error_mm[:, None, None]
    votes = np.ones((len(error_mm), 1))
    joints = {"": Joints(each, np.ones_like(each), np.zeros((*each.shape, len(thresholds_mm(1, "")))))}
    clips = np.arange(len(error_mm))
    return ClipSums(1, clips, 0 * clips, votes, votes, votes[:, 0], np.ones((len(clips), 2)), joints)


def test_interval_of_a_mean_is_over_groups():
    values = np.repeat(np.random.default_rng(0).normal(1.0, 2.0, 50), 4)
    groups = [f"recording {clip // 4}" for clip in range(200)]
    low, high = intervals.mean(values, groups)
    wide = 1.96 * values.std() / np.sqrt(50)
    assert (low, high) == pytest.approx((values.mean() - wide, values.mean() + wide), abs=0.15)
    narrow = intervals.mean(values, list(map(str, range(200))))
    assert (high - low) / (narrow[1] - narrow[0]) == pytest.approx(2.0, abs=0.2)
    assert intervals.mean(np.full(3, 0.25), ["a", "b", "c"]) == (0.25, 0.25)
    assert intervals.mean(np.array([0.0, 1.0]), ["a", "a"]) is None


@pytest.mark.parametrize(("gained", "lost"), [(0.08, 0.04), (0.02, 0.0), (0.2, 0.1)])
def test_paired_difference_covers_95_percent_also_with_few_differing_clips(gained: float, lost: float) -> None:
    """Pairs are alike; the percentile bootstrap (``mean``) holds 80, 38 and 93 % of these true differences."""
    random, held, tries = np.random.default_rng(0), 0, 300
    for _ in range(tries):
        drawn = random.random(22)[intervals.numbered(PAIRED)]
        low, high = intervals.paired_difference(drawn < gained, drawn > 1 - lost, PAIRED)
        held += low <= gained - lost <= high
    assert held / tries > 0.93


def test_paired_difference_by_hand() -> None:
    right, first = np.array([1, 1, 0, 1], bool), np.array([1, 0, 0, 0], bool)
    reach = Z * math.sqrt((4 / 6 - (2 / 6) ** 2) / 6)
    assert intervals.paired_difference(right, first) == pytest.approx((2 / 6 - reach, 2 / 6 + reach))
    assert intervals.paired_difference(right, first, ["a"] * 4) is None


def test_paired_intervals_leave_out_what_is_difficult_for_both() -> None:
    """The same clips are drawn for both, so errors that both share do not widen the interval of their difference."""
    error_mm = np.random.default_rng(0).uniform(5, 50, 36)
    first, other = sums_of(error_mm), sums_of(error_mm + 2)
    assert intervals.paired(other, first, PAIRED)["hand_error_mm"] == pytest.approx((2, 2))
    low, high = intervals.bootstrap(first, intervals.draws(first, PAIRED), PAIRED)["hand_error_mm"]
    assert high - low > 8
    assert intervals.paired(other, first, ["a"] * 36) == {}
