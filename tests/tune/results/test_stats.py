import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from htt.evaluation.intervals import numbered
from htt.evaluation.metric_table import METRICS
from tune.experiments.power import comparisons_possible, seeds_needed
from tune.results.stats import Claim, compare, compare_clips, spearman, summarise

PAIRED = [f"pair{clip // 2}" if clip < 28 else f"lone{clip}" for clip in range(36)]
"""Groups of the default benchmark's validation clips: 28 of 36 are pairs."""
NUMBERS = st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 6))


@st.composite
def studies(draw):
    """A reference and some variants, of the same seeds and clips."""
    shape = (draw(st.integers(2, 7)), draw(st.integers(1, 5)))
    shape = shape if draw(st.booleans()) else shape[:1]
    values = arrays(float, shape, elements=NUMBERS)
    return draw(values), draw(st.dictionaries(st.text(max_size=2), values, min_size=1, max_size=4))


def test_summary_by_hand():
    # Mean 42 / 6 = 7. The middle four: 3 + 4 + 5 + 6 = 18, / 4 = 4.5. Squares about 7: 25 + 16 + 9 + 4 + 1 + 225 = 280;
    # deviation (280 / 5)^0.5 = 7.4833, of the mean 3.0551; t of five degrees 2.5706: 7 -+ 7.8533.
    found = summarise([5, 2, 22, 3, 6, 4])
    assert (found.mean, found.iqm, found.n) == (7, 4.5, 6)
    assert (found.low, found.high) == pytest.approx((7 - 7.8533, 7 + 7.8533), abs=1e-3)


def test_interval_ends_at_the_bounds_of_values():
    found = summarise([0.5, 1.0, 1.0], (0.0, 1.0))  # 0.8333 -+ 4.3027 * 0.2887 / 3^0.5 = 0.7172
    assert (found.low, found.high) == (pytest.approx(0.1162, abs=1e-4), 1.0)
    assert METRICS["action_accuracy"].range == METRICS["hand_auc"].range == (0.0, 1.0)
    assert METRICS["hand_error_mm"].range == (0.0, math.inf)


def test_summary_of_one_seed_has_no_interval_and_of_none_nothing():
    one = summarise([3.0, math.nan])
    assert (one.mean, one.iqm, one.n) == (3, 3, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    none = summarise([])
    assert none.n == 0
    assert math.isnan(none.mean)


@given(arrays(float, st.integers(2, 12), elements=NUMBERS))
def test_summary_interval_contains_mean_and_ignores_order(values):
    found = summarise(values)
    assert found.low <= found.mean <= found.high
    assert values.min() - 1e-9 <= found.iqm <= values.max() + 1e-9
    again = summarise(values[::-1])
    assert (again.low, again.iqm, again.high) == pytest.approx((found.low, found.iqm, found.high), abs=1e-6)


def test_comparison_by_hand():
    reference = np.arange(6.0)
    step = np.array([1.0, 2, 1, 2, 1, 2])
    found = compare(reference, {"up": reference + step, "down": reference - 1.0}, higher_is_better=True)
    up, down = found["up"], found["down"]
    assert (up.difference, down.difference, up.n) == (1.5, -1, 6)
    assert up.p == down.p == 2 / 64
    assert up.p_holm == down.p_holm == 4 / 64
    assert (down.low, down.high) == (-1, -1)
    assert (up.better, down.better) == (1, 0)
    # The t interval: deviation 0.54772, of the mean 0.22361, times 2.5706 = 0.57480; drawn means come near it.
    assert (up.low, up.high) == pytest.approx((1.5 - 0.5748, 1.5 + 0.5748), abs=0.12)
    assert up.claim_text == "not enough seeds to claim (6; 7 are needed for 2 comparisons at the 5 % level)"


def test_six_seeds_allow_a_claim_and_five_do_not():
    reference = np.zeros(6)
    step = np.array([1.0, 2, 1, 2, 1, 2])
    assert compare(reference, {"a": step}, higher_is_better=True)["a"].claim is Claim.BETTER
    assert compare(reference, {"a": step}, higher_is_better=False)["a"].claim is Claim.WORSE
    assert compare(reference, {"a": step * [1, -1, 1, 1, 1, 1]}, higher_is_better=True)["a"].claim is Claim.NONE
    five = compare(reference[:5], {"a": step[:5]}, higher_is_better=True)["a"]
    assert five.claim_text == "not enough seeds to claim (5; 6 are needed at the 5 % level)"


def test_variant_named_beforehand_is_not_corrected():
    reference, step = np.zeros(6), np.array([1.0, 2, 1, 2, 1, 2])
    found = compare(reference, {"a": step, "b": step, "c": step}, higher_is_better=True, primary=["b"])
    assert [found[name].claim for name in "abc"] == [Claim.NOT_PRIMARY, Claim.BETTER, Claim.NOT_PRIMARY]
    assert found["b"].p_holm == 2 / 64
    assert math.isnan(found["a"].p_holm)
    assert found["a"].p == 2 / 64


def test_difference_of_one_clip_in_four_is_no_claim():
    """All seeds agree, but on the strength of one clip in four."""
    variant = np.tile([8.0, -1.0, 0.0, -1.0], (6, 1)) + np.linspace(0, 0.1, 6)[:, None]
    found = compare(np.zeros((6, 4)), {"a": variant}, higher_is_better=True)["a"]
    assert found.p_holm == 2 / 64
    assert found.low < 0 < found.difference
    assert found.claim is Claim.NONE


def test_comparison_omits_missing_seeds_and_clips():
    reference = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [2.0, np.nan, 4.0], [0.0, np.nan, 0.0]])
    variant = np.array([[2.0, np.nan, 6.0], [5.0, np.nan, 5.0], [3.0, np.nan, 4.0], [np.nan] * 3])
    found = compare(reference, {"a": variant}, higher_is_better=False)["a"]
    # Seeds 0 and 2, clips 0 and 2: (1 + 3 + 1 + 0) / 4.
    assert (found.n, found.difference) == (2, 1.25)
    missing = compare(reference, {"a": np.full((4, 3), np.nan)}, higher_is_better=False)["a"]
    assert (missing.n, missing.p) == (0, 1)
    assert math.isnan(missing.difference)
    assert missing.claim_text == "not measured"


def test_clip_known_for_some_seeds_only_is_refused():
    values = np.array([[1.0, np.nan], [1.0, 2.0]])
    with pytest.raises(ValueError, match="known for all seeds or for none; 'a' has one"):
        compare(np.zeros((2, 2)), {"a": values}, higher_is_better=True)
    with pytest.raises(ValueError, match=r"'a' has the shape \(3,\), the reference \(2,\)"):
        compare(np.zeros(2), {"a": np.zeros(3)}, higher_is_better=True)


def test_seeds_needed_are_the_fewest_for_five_percent():
    for comparisons in range(1, 200):
        seeds = seeds_needed(comparisons)
        assert comparisons * 2 / 2**seeds <= 0.05 < comparisons * 2 / 2 ** (seeds - 1)
        assert comparisons_possible(seeds) >= comparisons > comparisons_possible(seeds - 1)
    assert comparisons_possible(0) == 0


@settings(max_examples=50, deadline=None)
@given(studies())
def test_comparison_properties_hold(study):
    reference, variants = study
    found = compare(reference, variants, higher_is_better=True, resamples=200)
    for name, one in found.items():
        assert 0 < one.p <= one.p_holm <= 1
        assert one.low - 1e-9 <= one.difference <= one.high + 1e-9
        assert 0 <= one.better <= 1
        swapped = compare(variants[name], {name: reference}, higher_is_better=True, resamples=200)[name]
        assert swapped.difference == -one.difference
        assert swapped.p == one.p
        assert (swapped.low, swapped.high) == pytest.approx((-one.high, -one.low), abs=1e-6)
    backwards = compare(reference, dict(reversed(variants.items())), higher_is_better=True, resamples=200)
    assert backwards == found


def test_false_claims_are_at_most_five_percent():
    """400 simulated studies in which no part matters: four variants, clips of unlike difficulty, seeds of unlike luck.

    Six seeds cannot claim anything over three comparisons, so it is seven and eight that are put to the test.
    """
    allowed = scipy.stats.binom.ppf(0.975, 400, 0.05)
    for seeds in (6, 7, 8):
        random = np.random.default_rng(seeds)
        significant, claims, raw = 0, 0, 0
        for _ in range(400):
            first, *others = _null_study(random, variants=4, seeds=seeds, clips=24)
            found = compare(first, dict(zip("abc", others, strict=True)), higher_is_better=True, resamples=100)
            significant += any(one.p_holm <= 0.05 for one in found.values())
            claims += any(one.claim.differs for one in found.values())
            raw += any(one.p <= 0.05 for one in found.values())
        assert claims <= significant <= allowed
        assert raw > allowed, "the simulation would not notice if nothing were corrected"
        assert (significant > 0) == (seeds > 6)


def test_real_difference_is_claimed():
    random = np.random.default_rng(0)
    claims = 0
    for _ in range(100):
        first, second, third, fourth = _null_study(random, variants=4, seeds=8, clips=72)
        found = compare(first, {"a": second, "b": third, "c": fourth - 2.0}, higher_is_better=True, resamples=400)
        claims += found["c"].claim is Claim.WORSE
    assert claims >= 90  # 2 is 2.2 times the deviation of a difference of two seeds


def test_mean_interval_covers_95_percent():
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = summarise(random.normal(0, 1, 6))
        held += found.low <= 0 <= found.high
    assert 0.92 <= held / 2000 <= 0.98


@pytest.mark.parametrize(
    ("of_seeds", "of_clips", "rest"),
    [
        pytest.param(1.0, 0.0, 0.0, id="seeds alone"),
        pytest.param(1.0, 0.0, 5.0, id="seeds and the rest"),
        pytest.param(0.0, 3.0, 1.0, id="clips alone"),
        pytest.param(0.3, 3.0, 5.0, id="clips and the rest"),
        pytest.param(1.0, 8.0, 8.0, id="all alike"),
    ],
)
def test_difference_interval_covers_95_percent(of_seeds, of_clips, rest):
    """Truths of six seeds and 72 clips, whatever the noise comes from; each part has its deviation."""
    random = np.random.default_rng(1)
    held, studies = 0, 800
    for _ in range(studies):
        table = of_seeds * random.normal(size=(6, 1)) + of_clips * random.normal(size=72)
        table = 5 + table + rest * random.normal(size=(6, 72))
        found = compare(np.zeros((6, 72)), {"a": table}, higher_is_better=True, resamples=500)["a"]
        held += found.low <= 5 <= found.high
    assert 0.92 <= held / studies <= 0.98


def test_accuracy_difference_interval_covers_95_percent():
    """Right or wrong, a clip at a time; clips and seeds are others each time, the truth is the mean over all."""
    random = np.random.default_rng(2)
    truth = _right(random, variants=2, seeds=2000, clips=2000, gain=0.6)
    difference = truth[1].mean() - truth[0].mean()
    held = 0
    for _ in range(800):
        first, second = _right(random, variants=2, seeds=6, clips=72, gain=0.6)
        found = compare(first, {"a": second}, higher_is_better=True, resamples=500)["a"]
        held += found.low <= difference <= found.high
    assert 0.92 <= held / 800 <= 0.98


@pytest.mark.parametrize("values", ["errors", "accuracies"])
@pytest.mark.parametrize("grouped", [True, False])
def test_grouped_difference_interval_covers_95_percent(values, grouped):
    """Six seeds and 36 clips of which 28 are pairs that correlate by 0.96; over clips, intervals are too narrow."""
    random, held, tries = np.random.default_rng(5), 0, 600
    groups = PAIRED if grouped else []
    for _ in range(tries):
        of_clips = in_pairs(random)
        if values == "errors":
            table, truth = 5 + 2 * of_clips + 0.3 * random.normal(size=(6, 1)) + random.normal(size=(6, 36)), 5.0
        else:  # right or wrong, against a reference that is always wrong
            table, truth = (of_clips + 0.3 * random.normal(size=(6, 36)) > 0).astype(float), 0.5
        found = compare(np.zeros((6, 36)), {"a": table}, higher_is_better=True, groups=groups, resamples=400)["a"]
        held += found.low <= truth <= found.high
    assert (0.92 <= held / tries <= 0.98) == grouped
    assert grouped or held / tries < 0.9


@pytest.mark.parametrize("values", ["errors", "accuracies"])
@pytest.mark.parametrize("grouped", [True, False])
def test_grouped_training_interval_covers_95_percent(values, grouped):
    random, held, tries = np.random.default_rng(6), 0, 1500
    groups = PAIRED if grouped else list(map(str, range(36)))
    for _ in range(tries):
        if values == "errors":
            first = 20 + 5 * in_pairs(random)
            tables, truth = (first, first + 1 + in_pairs(random)), 1.0
            metric = "hand_error_mm"
        else:
            tables, truth = (in_pairs(random) > 0.3, in_pairs(random) > 0), 0.5 - scipy.stats.norm.sf(0.3)
            metric = "action_accuracy"
        found = compare_clips(*(table_of(each, groups, metric) for each in tables), metric)
        held += found.low <= truth <= found.high
    assert (0.92 <= held / tries <= 0.98) == grouped
    assert grouped or held / tries < 0.9


def test_groups_of_one_clip_change_no_number():
    random = np.random.default_rng(1)
    table = random.normal(size=36) + random.normal(size=(6, 1)) + 1 + random.normal(size=(6, 36))
    found = compare(np.zeros((6, 36)), {"a": table}, higher_is_better=True, groups=list(map(str, range(36))))
    assert found == compare(np.zeros((6, 36)), {"a": table}, higher_is_better=True)
    a = found["a"]
    assert (a.difference, a.low, a.high) == pytest.approx((0.3103117179960484, -0.4450046755428388, 1.0886888492175317))
    assert (a.p, a.better) == (0.34375, 0.79)


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)), st.permutations(range(2)))
def test_comparison_ignores_order_within_groups(first, second):
    groups = ["a"] * 4 + ["b"] * 2 + ["c"]
    table = np.random.default_rng(0).normal(1, 1, (6, 7))
    mixed = table[:, [*first, *(4 + each for each in second), 6]]
    expected, found = (
        compare(np.zeros((6, 7)), {"x": each}, higher_is_better=True, groups=groups, resamples=100)["x"]
        for each in (table, mixed)
    )
    assert (found.low, found.high, found.difference) == pytest.approx(
        (expected.low, expected.high, expected.difference)
    )
    assert (found.claim, found.p, found.better) == (expected.claim, expected.p, expected.better)


def test_one_group_has_no_interval_and_no_claim():
    step = np.tile([[1.0], [2.0], [1.0], [2.0], [1.0], [2.0]], (1, 3))
    assert compare(np.zeros((6, 3)), {"a": step}, higher_is_better=True)["a"].claim is Claim.BETTER
    found = compare(np.zeros((6, 3)), {"a": step}, higher_is_better=True, groups=["r"] * 3)["a"]
    assert (found.difference, found.p, found.claim) == (1.5, 2 / 64, Claim.NONE)
    assert all(map(math.isnan, (found.low, found.high, found.better)))
    clips = [table_of(each, ["r"] * 3, "hand_error_mm") for each in step[:2]]
    alone = compare_clips(*clips, "hand_error_mm")
    assert (alone.difference, alone.clips, alone.groups, alone.excludes_zero) == (1.0, 3, 1, False)
    assert math.isnan(alone.low)


def test_unknown_clip_is_omitted_with_its_group():
    values = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, 4.0]])
    found = compare(np.zeros((2, 3)), {"a": values}, higher_is_better=True, groups=["r", "s", "t"])["a"]
    assert found.difference == 2.5
    assert found.low < 2.5 < found.high
    alone = compare(np.zeros((2, 3)), {"a": values}, higher_is_better=True, groups=["r", "s", "r"])["a"]
    assert math.isnan(alone.low)
    with pytest.raises(ValueError, match="Expected a group for each of 3 clips; got 2 groups"):
        compare(np.zeros((2, 3)), {"a": values}, higher_is_better=True, groups=["r", "s"])


def test_two_trainings_by_hand():
    first = pl.DataFrame({"clip": ["a", "b", "c", "e"], "group": ["r", "r", "s", "t"], "hand_error_mm": [1.0, 2, 3, 9]})
    second = pl.DataFrame({"clip": ["c", "b", "d", "a"], "hand_error_mm": [5.0, 3.0, 7.0, 4.0]})
    found = compare_clips(first, second, "hand_error_mm")
    # Of a, b and c: 3, 1, 2; mean 2; groups r and s: 2 + 2 / 3 * 0 and 2 + 2 / 3 * 0.
    assert (found.difference, found.low, found.high, found.clips, found.groups) == pytest.approx((2, 2, 2, 3, 2))
    assert found.excludes_zero
    own = compare_clips(first.drop("group"), second, "hand_error_mm")
    # The t interval of 3, 1, 2: 2 -+ 4.3027 * 1 / 3^0.5.
    assert (own.low, own.high, own.groups) == pytest.approx((2 - 2.4841, 2 + 2.4841, 3), abs=1e-3)
    assert not own.excludes_zero
    moved = compare_clips(first.drop("group"), second, "hand_error_mm", difference=2.5)
    assert (moved.difference, moved.low, moved.high) == pytest.approx((2.5, own.low + 0.5, own.high + 0.5))
    nothing = compare_clips(first, second.head(0), "hand_error_mm")
    assert math.isnan(nothing.difference)
    assert (nothing.clips, nothing.groups, nothing.excludes_zero) == (0, 0, False)


def test_stats_imports_no_torch_ray_or_polars():
    code = "import sys, tune.results.stats; print([name for name in ('torch', 'ray', 'polars') if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def _null_study(random, variants, seeds, clips):
    """[v s c] errors of variants that do not differ: clips, seeds, and what is left."""
    difficulty = random.normal(0, 3, clips)
    luck = random.standard_t(5, (variants, seeds, 1))
    return difficulty + 0.5 * luck + random.normal(0, 2, (variants, seeds, clips))


def _right(random, variants, seeds, clips, gain):
    """[v s c] 1.0 where a clip's action is named rightly; each variant finds other clips hard."""
    hard = random.normal(0, 1, clips) + random.normal(0, 0.5, (variants, 1, clips))
    luck = random.normal(0, 0.3, (variants, seeds, 1))
    score = gain * np.arange(variants)[:, None, None] - hard + luck
    return (random.random((variants, seeds, clips)) < 1 / (1 + np.exp(-score))).astype(float)


def in_pairs(random, correlation=0.96):
    """[36] standard normal values that correlate within each pair of ``PAIRED``."""
    shared = random.normal(size=22)[numbered(PAIRED)]
    return correlation**0.5 * shared + (1 - correlation) ** 0.5 * random.normal(size=36)


def table_of(values, groups, metric):
    """Table of clips with these values."""
    column = "correct" if metric == "action_accuracy" else metric
    return pl.DataFrame({"clip": [f"c{clip}" for clip in range(len(values))], "group": groups, column: values})


def test_rank_correlation_by_hand():
    # Ranks differ by 1, 1, 0, 0, 0: 1 - 6 * 2 / (5 * 24) = 0.9. Fisher's z 1.4722, standard error
    # ((1 + 0.81 / 2) / 2)^0.5 = 0.8382: 1.4722 -+ 1.6428, and back: -0.1689 and 0.9961.
    found = spearman([1, 2, 3, 4, 5], [2, 1, 3, 4, 5])
    assert (found.rho, found.n) == (pytest.approx(0.9), 5)
    assert (found.low, found.high) == (pytest.approx(-0.1689, abs=1e-3), pytest.approx(0.9961, abs=1e-3))
    same = spearman([10, 20, 30, 40], [0.1, 0.2, 0.3, 0.9])
    assert (same.rho, same.high) == (1.0, 1.0)
    assert same.low == pytest.approx(math.tanh(math.atanh(0.8) - 1.95996 * (1 + 0.64 / 2) ** 0.5), abs=1e-3)
    turned = spearman([10, 20, 30, 40], [0.9, 0.3, 0.2, 0.1])
    assert (turned.low, turned.rho, turned.high) == (-1.0, -1.0, pytest.approx(-same.low))


@pytest.mark.parametrize(
    "pairs", [([], []), ([1.0], [2.0]), ([1.0, 2.0], [3.0, 3.0]), ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])]
)
def test_rank_correlation_of_few_has_no_interval(pairs):
    found = spearman(*pairs)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.rho) == (len(set(pairs[1])) < 2)


def test_rank_correlation_interval_covers_the_truth():
    source = np.random.default_rng(0)
    covariance, covered = [[1.0, 0.5], [0.5, 1.0]], 0
    true = 6 / math.pi * math.asin(0.25)
    for _ in range(300):
        first, second = source.multivariate_normal([0, 0], covariance, size=12).T
        found = spearman(first, second)
        covered += found.low <= true <= found.high
    assert 0.92 <= covered / 300 <= 0.98
