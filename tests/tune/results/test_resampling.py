import itertools
import operator

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tune.results.resampling import by_group, draw_means, holm, sign_flip

NUMBERS = st.floats(-100, 100, allow_subnormal=False).map(lambda value: round(value, 6))


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5, 6], 2 / 64),  # all on one side: the signs seen and their mirror image
        ([1, 1, 1, 1, 1], 2 / 32),
        # Sums of +-1 +-2 +-3: 6 4 2 0 0 -2 -4 -6; as far as |-1 + 2 + 3| = 4: 6, 4, -4, -6.
        ([-1, 2, 3], 4 / 8),
        # 0.1 + 0.2 - 0.3 is no exact zero in floats; all eight sums are as far from zero as it is.
        ([0.1, 0.2, -0.3], 1.0),
        ([0, 0, 0, 0], 1.0),
        ([0, 5], 1.0),  # the zero's sign says nothing: +5 and -5 are all there is
        ([7], 1.0),
        ([], 1.0),
    ],
)
def test_exact_p_equals_the_share_of_extreme_signs(differences, p):
    assert sign_flip(np.array(differences, float)) == p


@pytest.mark.parametrize("count", [2, 3, 5, 7, 9])
def test_exact_p_equals_the_share_of_all_sign_vectors(count):
    tenths = [int(each) for each in np.random.default_rng(count).integers(-20, 40, count)]  # exact, with equal sums
    sums = [abs(sum(map(operator.mul, signs, tenths))) for signs in itertools.product((-1, 1), repeat=count)]
    assert sign_flip(np.array(tenths) / 10) == sum(each >= abs(sum(tenths)) for each in sums) / 2**count


def test_drawn_signs_include_the_observed_one():
    values = np.full(17, 1.0)
    p = sign_flip(values)
    assert p >= 1 / 65537
    assert p == pytest.approx(2 / 2**17, abs=1e-4)
    normal = np.random.default_rng(0).normal(0.3, 1, 20)
    assert sign_flip(normal) == pytest.approx(scipy.stats.ttest_1samp(normal, 0).pvalue, abs=0.02)


@given(arrays(float, st.integers(1, 9), elements=NUMBERS))
def test_p_is_a_probability_and_symmetric(differences):
    p = sign_flip(differences)
    assert 2 / 2 ** len(differences) <= p <= 1
    assert p == sign_flip(-differences)
    assert p == sign_flip(differences[::-1])


def test_holm_by_hand():
    # Sorted: 0.01 * 4 = 0.04; 0.02 * 3 = 0.06; 0.025 * 2 = 0.05, raised to 0.06; 0.9 * 1 = 0.9.
    assert holm({"a": 0.9, "b": 0.02, "c": 0.01, "d": 0.025}) == {
        "a": 0.9,
        "b": pytest.approx(0.06),
        "c": 0.04,
        "d": pytest.approx(0.06),
    }
    assert holm({"a": 0.7, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(1e-6, 1), max_size=7))
def test_holm_keeps_order_between_raw_p_and_bonferroni(p):
    corrected = holm(p)
    assert list(corrected) == list(p)
    for name in p:
        assert p[name] <= corrected[name] <= min(1, len(p) * p[name])
        assert all(corrected[name] <= corrected[other] for other in p if p[name] <= p[other])


def test_holm_ignores_the_order_of_variants():
    p = {"a": 0.03, "b": 0.01, "c": 0.03, "d": 0.2}
    assert holm(dict(reversed(p.items()))) == holm(p)


def test_drawn_means_vary_as_analysis_of_variance_predicts():
    # Seeds add -3 and 3, clips -1, 0, 1, the rest is +-0.5 around them; mean 10.
    seeds, clips = np.array([[-3.0], [3.0]]), np.array([[-1.0, 0.0, 1.0]])
    rest = 0.5 * np.array([[1.0, -2.0, 1.0], [-1.0, 2.0, -1.0]])
    drawn = draw_means(10 + seeds + clips + rest, 200_000, 0)
    # Mean squares: seeds 3 * 18 / 1 = 54, clips 2 * 2 / 2 = 2, rest 3 / 2 = 1.5. The variance of the mean of 6 cells
    # is (54 + 2 - 1.5) / 6 = 9.0833; its freedom 54.5^2 / (54^2 / 1 + 2^2 / 2 + 1.5^2 / 2) = 1.0174.
    spread = scipy.stats.t.ppf(0.975, 54.5**2 / (54**2 + 2 + 1.125)) / scipy.stats.norm.ppf(0.975)
    assert drawn.mean() == pytest.approx(10, abs=0.1)
    assert drawn.std() / spread == pytest.approx(9.0833**0.5, rel=0.01)


def test_drawn_means_of_one_value_a_seed_equal_t_interval():
    values = np.random.default_rng(3).normal(size=15)
    values = np.concatenate([values, -values])  # the t interval knows no skew
    low, high = np.quantile(draw_means(values[:, None], 200_000, 0), (0.025, 0.975))
    interval = scipy.stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == pytest.approx((interval.low, interval.high), abs=0.01)


@pytest.mark.parametrize("shape", [(2, 1), (6, 1), (6, 5)])
def test_drawn_means_of_equal_differences_are_constant(shape):
    assert draw_means(np.full(shape, 0.1), 10, 0) == pytest.approx(np.full(10, 0.1), abs=1e-12)


def test_group_table_by_hand():
    # Row mean 3; deviations -2, 0, 3, -1: of a -2 + 3 = 1, of b 0, of c -1, each times 3 / 4.
    table = np.array([[1.0, 3.0, 6.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
    grouped = by_group(table, ["a", "b", "a", "c"])
    np.testing.assert_allclose(grouped, [[3.75, 3.0, 2.25], [5.0, 5.0, 5.0]])
    assert by_group(table, list("abcd")) is table


@given(arrays(float, (2, 6), elements=NUMBERS), st.lists(st.sampled_from("abc"), min_size=6, max_size=6))
def test_group_table_keeps_row_means(table, groups):
    grouped = by_group(table, groups)
    assert grouped.shape == (2, len(set(groups)))
    np.testing.assert_allclose(grouped.mean(axis=1), table.mean(axis=1), atol=1e-9)


def test_drawn_group_means_vary_as_the_mean_over_clips():
    """Groups of one to four clips: the bootstrap of the ratio, which has no linearisation, as the reference."""
    random = np.random.default_rng(0)
    sizes = random.integers(1, 5, 80)
    groups = np.repeat(np.arange(80), sizes)
    table = (random.normal(size=80)[groups] + random.normal(size=len(groups)))[None]
    drawn = random.multinomial(80, np.full(80, 1 / 80), 20_000)[:, groups]
    expected = ((drawn @ table[0]) / drawn.sum(axis=1)).std()
    assert by_group(table, groups.tolist())[0].std() / 80**0.5 == pytest.approx(expected, rel=0.03)
