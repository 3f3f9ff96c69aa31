"""Resampling of paired differences: sign-flip test over seeds, and bootstrap over seeds and groups of clips.

Paired differences are a table [s c]: a row for each seed, trained with both variants in the same order of data, and a
column for each clip, which all seeds are evaluated on. Clips that are alike are a group, and groups are drawn: the
bootstrap gets the table of groups, ``by_group``. Letters: ``s`` seeds, ``c`` clips or groups, ``r`` resamples.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from htt.evaluation.intervals import numbered
from tune.experiments.power import LEVEL

EXACT_SEEDS = 16
"""Largest number of seeds for which all signs are tried; for more, ``FLIPS`` random signs are drawn."""
FLIPS = 2**EXACT_SEEDS
_ROUNDING = 1e-12
"""Tolerance for equality, relative to the size of the differences."""


def sign_flip(differences: np.ndarray, seed: int = 0) -> float:
    """Return the two-sided p of the mean of paired differences [s], under random signs.

    This is the share of all 2^s sign vectors whose mean is at least as far from zero as the observed mean; it is at
    least 2 / 2^s. For more than ``EXACT_SEEDS`` seeds the signs are drawn at random, and the observed signs are added
    to them (Phipson and Smyth 2010).
    """
    least = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()

    def as_far(flipped: np.ndarray, axis: int) -> np.ndarray:
        return np.asarray(np.abs(flipped.sum(axis)) >= least, float)

    count = len(differences)
    if count < 2:  # SciPy needs two values
        return 1.0
    if count > EXACT_SEEDS:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(FLIPS, count))
        return float((as_far(signs * differences, 1).sum() + 1) / (FLIPS + 1))
    import scipy.stats  # imported late: takes a second, and only some commands need it

    exact = scipy.stats.permutation_test(
        (differences,), as_far, permutation_type="samples", alternative="greater", vectorized=True, n_resamples=FLIPS
    )
    return float(exact.pvalue)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return {name: p} after Holm's correction, which bounds the probability of any false claim by ``LEVEL``.

    The smallest p is multiplied by their number, the next by one less, and so on; corrected values never decrease.
    Source: Holm 1979.
    """
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p}


def by_group(table: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    """Return the table [s g] of the groups of a table [s c] of clips; the same table if each clip is its own group.

    The value of a group is the mean of the row, plus the sum of its clips' deviations from this mean times g / c. So a
    row keeps its mean over clips, and the mean of drawn groups varies as the mean over all their clips does, whose
    number varies, too (first order: the linearisation of a ratio; Särndal, Swensson and Wretman 1992, section 5.6).
    """
    number = numbered(groups)
    clips, count = len(number), len(set(groups))
    if count == clips:
        return table
    mean = table.mean(axis=1, keepdims=True)
    return np.asarray(mean + (table - mean) @ (number[:, None] == np.arange(count)) * (count / clips))


def draw_means(differences: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return bootstrap means [r] of a table of differences [s c], for other seeds and other clips (or groups of them).

    Seeds and clips are drawn with replacement; the same clips are drawn for all seeds, since every seed was evaluated
    on the same clips. A plain bootstrap is inaccurate: six seeds vary too little (variance too small by the factor 5/6,
    normal tails), and the residual of seeds and clips counts three times (Owen 2007, "The pigeonhole bootstrap"). Its
    95 % intervals covered 85 % to 100 % of simulated true values. Therefore the three parts of the table (seeds, clips,
    residual) are first scaled to the unbiased variances of an analysis of variance (Davison and Hinkley 1997, section
    3.8), and the means are spread by t / z (Hesterberg 2015, "What teachers should know about the bootstrap").

    Args:
        differences: [s c] with at least two seeds.
        resamples: number of means r.
        seed: seed of the resampling.
    """
    seeds, clips = differences.shape
    mean = differences.mean()
    of_seeds, of_clips, rest = _parts(differences - mean)
    freedom = np.array([seeds - 1, max(clips - 1, 1), (seeds - 1) * max(clips - 1, 1)])
    squares = np.array([clips * (of_seeds**2).sum(), seeds * (of_clips**2).sum(), (rest**2).sum()]) / freedom
    above = np.maximum(squares - squares[2], 0)  # 0: the residual alone explains the part
    variances = np.array([above[0] / clips, above[1] / seeds, squares[2]])
    scaled = _scaled(of_seeds, variances[0]) + _scaled(of_clips, variances[1]) + _scaled(rest, variances[2])

    drawn_seeds, drawn_clips = _drawn(seeds, clips, resamples, seed)
    means = ((drawn_seeds @ scaled) * drawn_clips).sum(axis=1)
    return np.asarray(mean + _spread(squares, above, freedom) * means)


@functools.lru_cache(maxsize=1)
def _drawn(seeds: int, clips: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of seeds [r s] and clips [r c] in each resample; cached, since all variants use the same."""
    random = np.random.default_rng(seed)
    drawn_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    return drawn_seeds, random.multinomial(clips, np.full(clips, 1 / clips), resamples) / clips


def _parts(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the effects of seeds [s 1] and clips [1 c], and the residual [s c]; rounding errors are set to zero."""
    of_seeds = centred.mean(axis=1, keepdims=True)
    of_clips = centred.mean(axis=0, keepdims=True)
    rest = centred - of_seeds - of_clips
    tiny = _ROUNDING * np.abs(centred).max()
    first, second, third = (np.where(np.abs(part) <= tiny, 0.0, part) for part in (of_seeds, of_clips, rest))
    return first, second, third


def _scaled(part: np.ndarray, variance: float) -> np.ndarray:
    """Return the part scaled to a mean square of ``variance``; a part of zeros is returned unchanged."""
    now = (part**2).mean()
    return np.asarray(part * np.sqrt(variance / now)) if now else part


def _spread(squares: np.ndarray, above: np.ndarray, freedom: np.ndarray) -> float:
    """Return the ratio t / z of quantiles, with Satterthwaite's degrees of freedom of this sum of mean squares."""
    taken = np.array([above[0] > 0, above[1] > 0, 0.0])
    taken[2] = 1 - taken[0] - taken[1]
    parts = taken * squares
    if not parts.any():
        return 1.0
    tail = 1 - LEVEL / 2
    known = parts.sum() ** 2 / (parts**2 / freedom).sum()
    import scipy.stats  # imported late: takes a second, and only some commands need it

    return float(scipy.stats.t.ppf(tail, known) / scipy.stats.norm.ppf(tail))
