"""Statistics of a study: means with intervals, paired differences, and the rule for claiming a difference.

Arrays are [s] (a value per seed) or [s c] (a value per seed and clip), float64. A row of NaN is a missing seed, and
a column of NaN a clip whose metric is unknown. Clips that are alike, such as those of one recording, are a group:
intervals are over groups, which are drawn as a whole. Letters: ``s`` seeds, ``c`` clips.

**Rule of a claim.** A variant is claimed to differ from the reference if both hold at the 5 % level:

1. over seeds: the exact two-sided sign-flip p, after Holm's correction over the compared variants, is at most 0.05;
2. over seeds and groups of clips: the 95 % interval of the difference excludes zero.

The first tests whether the result holds for other seeds on these clips, the second whether it holds for other clips. A
sign-flip p of n seeds is at least 2 / 2^n, and Holm's correction multiplies the smallest p by the number of
comparisons. A claim therefore needs 6 seeds for one comparison, 7 for two or three, 8 for up to six and 9 for up to
twelve (``seeds_needed``). A one-sided test would halve p, but could not claim the opposite direction. To claim more,
use more seeds, or name the variants of interest before the run (``primary``): the correction is then over these, and
the other variants get intervals only. Each metric is a separate family of tests.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tune.experiments.power import LEVEL, seeds_needed
from tune.results.resampling import by_group, draw_means, holm, sign_flip

if TYPE_CHECKING:
    import polars as pl

RESAMPLES = 4000
FEWEST = 2
"""Smallest number of seeds with an interval."""


class Claim(enum.Enum):
    """Conclusion of a comparison; the values are its words in tables."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "no difference can be claimed"
    TOO_FEW_SEEDS = "not enough seeds to claim"
    NOT_PRIMARY = "not asked beforehand"
    """The variant is not in ``primary``."""
    UNTRAINED = "head not trained"
    """The variant or the reference has no loss for what the metric measures."""
    NOT_MEASURED = "not measured"
    """No seed has a value of the variant and of the reference."""

    @property
    def differs(self) -> bool:
        """True if a difference is claimed."""
        return self in (Claim.BETTER, Claim.WORSE)


@dataclass(frozen=True)
class Summary:
    """Summary of one metric of one variant over its seeds; values that cannot be computed are NaN."""

    mean: float
    iqm: float
    """Interquartile mean: mean of the middle half of the seeds, robust to an outlier."""
    low: float
    high: float
    """``low`` and ``high``: ends of the 95 % interval of the mean over seeds."""
    n: int
    """Number of seeds."""
    deviation: float = math.nan
    """Sample standard deviation over seeds (divisor n - 1)."""


@dataclass(frozen=True)
class Comparison:
    """Difference of a variant minus the reference, in the metric's unit; values that cannot be computed are NaN."""

    difference: float
    """Mean over the seeds and clips that both have."""
    low: float
    high: float
    """``low`` and ``high``: ends of the 95 % interval over seeds and groups of clips; NaN for clips of one group."""
    p: float
    """Exact two-sided sign-flip p over seeds."""
    p_holm: float
    """``p`` after Holm's correction over the compared variants; NaN for a variant not in ``primary``."""
    better: float
    """P(better): share of resampled differences on the better side, counting half of those at zero."""
    n: int
    """Number of seeds that both have."""
    claim: Claim
    comparisons: int
    """Number of comparisons in Holm's correction."""

    @property
    def claim_text(self) -> str:
        """Claim in words, with the number of seeds needed if there are too few."""
        if self.claim is not Claim.TOO_FEW_SEEDS:
            return str(self.claim.value)
        over = f" for {self.comparisons} comparisons" if self.comparisons > 1 else ""
        needed = f"{seeds_needed(self.comparisons)} are needed{over} at the {100 * LEVEL:g} % level"
        return f"{self.claim.value} ({self.n}; {needed})"


@dataclass(frozen=True)
class ClipDifference:
    """Difference of two trainings over the validation clips that both have; values that cannot be computed are NaN."""

    difference: float
    """Second training minus first, in the metric's unit."""
    low: float
    high: float
    """``low`` and ``high``: ends of the 95 % interval over groups of clips; NaN for clips of one group."""
    clips: int
    groups: int
    """Number of groups of these clips."""

    @property
    def excludes_zero(self) -> bool:
        """True if the clips tell the two trainings apart; says nothing of other seeds."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Rank:
    """Spearman's rank correlation; values that cannot be computed are NaN."""

    rho: float
    low: float
    high: float
    """``low`` and ``high``: ends of its 95 % interval, which needs ``FEWEST_RANKS`` pairs."""
    n: int
    """Number of pairs."""


FEWEST_RANKS = 4
"""Smallest number of pairs with an interval of the rank correlation."""


def spearman(first: Sequence[float], second: Sequence[float]) -> Rank:
    """Return Spearman's rank correlation of pairs of numbers, with its 95 % interval.

    The interval is that of Fisher's z with the standard error of Bonett and Wright (2000). It has no width for equal
    orders, for which the ends are those of orders that differ by one exchange of neighbours.
    """
    import scipy.stats  # imported late: takes a second, and only some commands need it

    count = len(first)
    if count < 2 or len(set(first)) < 2 or len(set(second)) < 2:
        return Rank(math.nan, math.nan, math.nan, count)
    rho = float(scipy.stats.spearmanr(first, second).statistic)
    if count < FEWEST_RANKS:
        return Rank(rho, math.nan, math.nan, count)
    nearest = 1 - 12 / (count * (count**2 - 1))
    bounded = min(max(rho, -nearest), nearest)
    half = scipy.stats.norm.ppf(1 - LEVEL / 2) * math.sqrt((1 + bounded**2 / 2) / (count - 3))
    low, high = (float(np.tanh(np.arctanh(bounded) + sign * half)) for sign in (-1, 1))
    return Rank(rho, min(low, rho), max(high, rho), count)


def summarise(values: np.ndarray | Sequence[float], within: tuple[float, float] = (-math.inf, math.inf)) -> Summary:
    """Return mean, interquartile mean, 95 % t interval and deviation over seeds; NaN is a missing seed.

    Args:
        values: [s]
        within: smallest and largest possible value; the interval is clipped to them.
    """
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    count = len(known)
    if not count:
        return Summary(math.nan, math.nan, math.nan, math.nan, 0)
    import scipy.stats  # imported late: takes a second, and only some commands need it

    mean, iqm = float(known.mean()), float(scipy.stats.trim_mean(known, 0.25))
    if count < FEWEST:
        return Summary(mean, iqm, math.nan, math.nan, count)
    deviation = float(known.std(ddof=1))
    half = float(scipy.stats.t.ppf(1 - LEVEL / 2, count - 1) * deviation / math.sqrt(count))
    return Summary(mean, iqm, max(mean - half, within[0]), min(mean + half, within[1]), count, deviation)


def compare_clips(
    first: pl.DataFrame, second: pl.DataFrame, metric: str, difference: float | None = None
) -> ClipDifference:
    """Return the paired difference of two trainings, from their tables of clips (``htt/evaluation/clip_table.py``).

    The interval is a t interval over groups of clips (``by_group``): for other clips, with these two trainings.

    Args:
        first: clips of a training.
        second: clips of another training, of the same data.
        metric: name of a metric that the tables have for each clip.
        difference: difference of the reported metrics, which the interval is moved to; None for that of the means over
            clips. They may differ: a hand error is averaged over frames.
    """
    from htt.evaluation import clip_table  # imported late: imports polars

    before, after = (clip_table.values(table, metric) for table in (first, second))
    shared = sorted(before.keys() & after.keys())
    groups = clip_table.groups_of(shared, (first, second))
    each = np.array([after[clip] - before[clip] for clip in shared])
    over = summarise(by_group(each[None], groups)[0] if shared else [])
    shift = 0.0 if difference is None else difference - over.mean
    return ClipDifference(over.mean + shift, over.low + shift, over.high + shift, len(shared), over.n)


def compare(
    reference: np.ndarray,
    variants: Mapping[str, np.ndarray],
    higher_is_better: bool,
    *,
    groups: Sequence[str] = (),
    primary: Sequence[str] = (),
    untrained: Collection[str] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Return {name: variant minus reference}; see the module docstring for the rule of a claim.

    Args:
        reference: [s] or [s c]
        variants: arrays of the same shape, with the same seeds in the rows and the same clips in the columns.
        higher_is_better: True if a positive difference is better.
        groups: [c] group of each clip; if empty, each clip is its own.
        primary: variants named before the run; if empty, all.
        untrained: variants of which nothing may be claimed, because nothing trained what the metric measures.
        resamples: number of bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        ValueError: the shapes or the number of groups differ, or a clip is known for some seeds only.
    """
    paired = {name: _paired(name, reference, values, groups) for name, values in variants.items()}
    tested = [name for name in paired if (not primary or name in primary) and name not in untrained]
    p = {name: sign_flip(table.mean(axis=1), seed) for name, (table, _) in paired.items()}
    corrected = holm({name: p[name] for name in tested})
    sign = 1.0 if higher_is_better else -1.0
    comparisons = {}
    for name, (table, of) in paired.items():
        low = high = better = math.nan
        if len(table) >= FEWEST and (len(set(of)) > 1 or len(of) == 1):  # one clip, or no clips: over seeds alone
            drawn = draw_means(by_group(table, of), resamples, seed)
            low, high = map(float, np.quantile(drawn, (LEVEL / 2, 1 - LEVEL / 2)))
            better = float((sign * drawn > 0).mean() + (drawn == 0).mean() / 2)
        difference = float(table.mean()) if table.size else math.nan
        p_holm, seeds = corrected.get(name, math.nan), len(table)
        claim = _claim(sign * difference, low > 0 or high < 0, p_holm, seeds, len(tested))
        claim = Claim.UNTRAINED if name in untrained else claim
        comparisons[name] = Comparison(difference, low, high, p[name], p_holm, better, seeds, claim, len(tested))
    return comparisons


def _paired(
    name: str, reference: np.ndarray, variant: np.ndarray, groups: Sequence[str]
) -> tuple[np.ndarray, Sequence[Hashable]]:
    """Return the differences [s c] of the seeds and clips that both have, and the groups of these clips."""
    if np.shape(reference) != np.shape(variant):
        raise ValueError(
            f"A variant and the reference must have the same seeds and clips; '{name}' has the shape "
            f"{np.shape(variant)}, the reference {np.shape(reference)}."
        )
    table: np.ndarray = np.asarray(variant, float) - np.asarray(reference, float)
    table = table[:, None] if table.ndim == 1 else table
    table = table[~np.isnan(table).all(axis=1)]
    if len(groups or table.T) != table.shape[1]:
        raise ValueError(f"Expected a group for each of {table.shape[1]} clips; got {len(groups)} groups.")
    known = ~np.isnan(table).all(axis=0) if len(table) else np.ones(table.shape[1], bool)
    table = table[:, known]
    if not np.isfinite(table).all():
        raise ValueError(f"A clip must be known for all seeds or for none; '{name}' has one that is known for some.")
    return table, [group for group, has in zip(groups or range(len(known)), known, strict=True) if has]


def _claim(gain: float, excludes_zero: bool, p_holm: float, seeds: int, comparisons: int) -> Claim:
    """Return the claim by the rule of the module docstring."""
    if not seeds:
        return Claim.NOT_MEASURED
    if math.isnan(p_holm):
        return Claim.NOT_PRIMARY
    if p_holm <= LEVEL and excludes_zero:
        return Claim.BETTER if gain > 0 else Claim.WORSE
    return Claim.TOO_FEW_SEEDS if seeds < seeds_needed(comparisons) else Claim.NONE
