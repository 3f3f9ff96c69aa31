"""What a study may claim: means with intervals, paired differences, and whether they are more than noise.

Arrays are [s] (one value a seed) or [s c] (one a seed and clip), float64; a row of NaN is a seed that is not there, a
column of NaN a clip of which the metric is not known. Letters: ``s`` seeds, ``c`` clips.

**The rule of a claim.** A variant differs from the reference if both hold at the 5 % level:

1. over seeds: the exact two-sided sign-flip p, after Holm's correction over the variants compared, is 0.05 at most;
2. over seeds and clips: the 95 % interval of the difference leaves out zero.

The first asks whether other seeds would say the same of these clips, the second whether other clips would. A sign-flip
p of n seeds is never below 2 / 2^n, and Holm multiplies the smallest by the number of comparisons, so a claim takes
seeds: 6 for one comparison, 7 for two or three, 8 for up to six, 9 for up to twelve (``seeds_needed``). Testing one
side only would halve that p, but the other side could then never be claimed; so the ways to claim more with few seeds
are more seeds, or naming beforehand which variants the study is about (``primary``): the correction is then over those,
and of the others only intervals are given. Each metric is a family of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tune.experiments.power import LEVEL, seeds_needed
from tune.results.resampling import draw_means, holm, sign_flip

RESAMPLES = 4000
FEWEST = 2
"""Seeds without which nothing can be said of how seeds differ."""

BETTER, WORSE = "better", "worse"
NO_CLAIM = "no difference can be claimed"
NOT_ASKED = "not asked beforehand"
"""Of a variant that the study did not name beforehand."""


@dataclass(frozen=True)
class Summary:
    """A metric of one variant over its seeds."""

    mean: float
    iqm: float
    """Mean of the middle half of the seeds: less moved by one that went astray."""
    low: float
    high: float
    """95 % interval of the mean over seeds; NaN for one seed."""
    n: int
    """Seeds."""
    deviation: float = math.nan
    """Standard deviation over seeds, of the population they are drawn from (n - 1); NaN for one seed."""


@dataclass(frozen=True)
class Comparison:
    """A variant less the reference, in the metric's unit."""

    difference: float
    """Mean over the seeds both have, and their clips; NaN if there is none."""
    low: float
    high: float
    """95 % interval of the difference, for other seeds and other clips; NaN for fewer than two seeds."""
    p: float
    """Exact two-sided sign-flip p over seeds."""
    p_holm: float
    """The same after Holm's correction over the variants compared; NaN for one not asked beforehand."""
    better: float
    """P(better): the share of drawn differences on the better side, half of those at zero."""
    n: int
    """Seeds that both have."""
    claim: str
    """One of "better", "worse", "no difference can be claimed", "not enough seeds to claim (...)" and "not asked
    beforehand"."""


def summarise(values: np.ndarray | Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> Summary:
    """Mean, interquartile mean, 95 % t interval and deviation over seeds; NaN stands for a seed that is not there.

    Args:
        values: [s]
        within: the least and the most a value can be; the interval is cut there.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    count = len(known)
    if not count:
        return Summary(math.nan, math.nan, math.nan, math.nan, 0)
    import scipy.stats  # late: a second, and not every command computes

    mean, iqm = float(known.mean()), float(scipy.stats.trim_mean(known, 0.25))
    if count < FEWEST:
        return Summary(mean, iqm, math.nan, math.nan, count)
    deviation = float(known.std(ddof=1))
    half = float(scipy.stats.t.ppf(1 - LEVEL / 2, count - 1) * deviation / math.sqrt(count))
    low, high = max(mean - half, within[0]), min(mean + half, within[1])
    return Summary(mean, iqm, low, high, count, deviation)


def compare(
    reference: np.ndarray,
    variants: Mapping[str, np.ndarray],
    higher_is_better: bool,
    *,
    primary: Sequence[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Each variant less the reference: {name: comparison}; see the module for what may be claimed.

    Args:
        reference: [s] or [s c]
        variants: arrays of the same shape: row by row the same seeds, column by column the same clips.
        higher_is_better: which side of zero is the better one.
        primary: the variants named beforehand; none: all of them.
        resamples: drawings of the bootstrap.
        seed: determines them.

    Raises:
        ValueError: arrays of several shapes, or a clip that is known for some seeds alone.
    """
    tables = {name: _paired(name, reference, values) for name, values in variants.items()}
    asked = [name for name in tables if not primary or name in primary]
    p = {name: sign_flip(table.mean(axis=1), seed) for name, table in tables.items()}
    corrected = holm({name: p[name] for name in asked})
    sign = 1.0 if higher_is_better else -1.0
    found = {}
    for name, table in tables.items():
        low, high, better = _interval(table, sign, resamples, seed)
        difference, seeds, p_holm = _mean(table), len(table), corrected.get(name, math.nan)
        claim = _claim(sign * difference, not low <= 0 <= high, p_holm, seeds, len(asked))
        found[name] = Comparison(difference, low, high, p[name], p_holm, better, seeds, claim)
    return found


def _paired(name: str, reference: np.ndarray, variant: np.ndarray) -> np.ndarray:
    """The differences [s c] of the seeds and clips that both have."""
    if np.shape(reference) != np.shape(variant):
        raise ValueError(
            f"A variant and the reference must have the same seeds and clips; '{name}' has the shape "
            f"{np.shape(variant)}, the reference {np.shape(reference)}."
        )
    table: np.ndarray = np.asarray(variant, float) - np.asarray(reference, float)
    table = table[:, None] if table.ndim == 1 else table
    table = table[~np.isnan(table).all(axis=1)]
    table = table[:, ~np.isnan(table).all(axis=0)] if len(table) else table
    if not np.isfinite(table).all():
        raise ValueError(f"A clip must be known for all seeds or for none; '{name}' has one that is known for some.")
    return table


def _mean(table: np.ndarray) -> float:
    return float(table.mean()) if table.size else math.nan


def _interval(table: np.ndarray, sign: float, resamples: int, seed: int) -> tuple[float, float, float]:
    """Both ends of the 95 % interval, and P(better)."""
    if len(table) < FEWEST:
        return math.nan, math.nan, math.nan
    drawn = draw_means(table, resamples, seed)
    low, high = np.quantile(drawn, (LEVEL / 2, 1 - LEVEL / 2))
    better = (sign * drawn > 0).mean() + (drawn == 0).mean() / 2
    return float(low), float(high), float(better)


def _claim(gain: float, leaves_out_zero: bool, p_holm: float, seeds: int, comparisons: int) -> str:
    if math.isnan(p_holm):
        return NOT_ASKED
    if p_holm <= LEVEL and leaves_out_zero:
        return BETTER if gain > 0 else WORSE
    needed = seeds_needed(comparisons)
    if seeds < needed:
        over = f" for {comparisons} comparisons" if comparisons > 1 else ""
        return f"not enough seeds to claim ({seeds}; {needed} are needed{over} at the 5 % level)"
    return NO_CLAIM
