"""95 % intervals of metrics, for splits of some hundred clips.

Clips are the sampled units: the frames of a clip resemble one another, so errors and the accuracy of frames are
resampled clip by clip (percentile bootstrap). The accuracy of clips is a fraction of independent trials: it gets
Wilson's score interval, which is also right for few clips and for fractions near 1.

Clips that are alike, such as those of one recording, are a *group*, and groups are the sampled units instead. The
bootstrap draws whole groups. Few groups vary too little when they are drawn, so its quantiles lie further out: the
expanded percentile interval of Hesterberg 2015 ("What teachers should know about the bootstrap"). Wilson's interval is
that of the ``effective`` number of clips. With 28 of 36 clips in pairs whose errors correlate by 0.96, intervals over
clips hold 82 to 89 % of true values, those over groups 93 to 97 % (tests/htt/evaluation/test_intervals.py). If every
clip is its own group, intervals are those over clips. ``groups`` is the group of each clip, or empty if each clip is
its own.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from htt.evaluation.sums import VOTES, ClipSums
from htt.info import UNKNOWN
from htt.text import plural

LEVEL = 0.95
EDGES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""Quantiles at the ends of an interval."""
RESAMPLES = 2000
SEED = 0
_FEWEST = 2
"""Smallest number of groups for which the variation between groups can be estimated."""

Interval = tuple[float, float]


def numbered(groups: Sequence[Hashable]) -> np.ndarray:
    """Return [c] the number of each clip's group, from 0 in the order of their first clips."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], int)


def effective(correct: np.ndarray, groups: Sequence[str] = ()) -> float:
    """Return the number of independent clips whose share of correct ones is known as well as that of these clips.

    This is their number divided by the design effect: the variance of the share between groups, as a multiple of that
    between independent clips. It is at most their number (Korn and Graubard 1998). If all clips are right or all are
    wrong, those of a group count as copies of one clip. NaN if there are several clips, all of one group. Values of
    clips other than right and wrong are treated alike: those of -1, 0 and 1 for the difference of two evaluations.

    Source: Franco, Little, Louis and Slud 2019 (Journal of Survey Statistics and Methodology 7): Wilson's interval with
    an effective number, compared with others.
    """
    clips, number = len(correct), numbered(groups)
    sizes = np.bincount(number)
    if len(sizes) in (0, clips):
        return clips
    if len(sizes) < _FEWEST:
        return math.nan
    share = correct.mean()
    independent = clips * share * (1 - share) if correct.dtype == bool else ((correct - share) ** 2).sum()
    between = (np.bincount(number, correct - share) ** 2).sum()
    effect = between / independent if independent else (sizes**2).sum() / clips
    return float(clips / max(effect, 1.0))


def paired_difference(right: np.ndarray, first: np.ndarray, groups: Sequence[str] = ()) -> Interval | None:
    """Return the 95 % interval of the difference of two accuracies on the same clips, or None for a single group.

    Source: Bonett and Price 2012 (Journal of Educational and Behavioral Statistics 37): one clip is added to those that
    only one of both gets right. With few of such clips a bootstrap is too narrow: with 2 % of 36 clips it holds 38 % of
    true differences. With groups, the clips are the effective ones.

    Args:
        right: whether each clip is right.
        first: whether each clip is right in the evaluation that is subtracted.
        groups: group of each clip; if empty, each clip is its own.
    """
    import scipy.special  # imported here: it takes a second, and not every command needs it

    apart = right.astype(int) - first.astype(int)
    count = effective(apart, groups)
    if math.isnan(count) or not count:
        return None
    more, less = ((count * (apart == sign).mean() + 1) / (count + 2) for sign in (1, -1))
    reach = float(scipy.special.ndtri(EDGES[1])) * math.sqrt((more + less - (more - less) ** 2) / (count + 2))
    return max(more - less - reach, -1.0), min(more - less + reach, 1.0)


def wilson(right: float, total: float) -> Interval:
    """Return Wilson's 95 % score interval of ``right`` out of ``total`` independent trials.

    Neither needs to be whole: of clips in groups, ``effective`` numbers are given. Source: Wilson 1927; in the form of
    SciPy, which computes it for whole numbers only.
    """
    import scipy.special  # imported here: it takes a second, and not every command needs it

    z, share = float(scipy.special.ndtri(EDGES[1])), right / total
    denominator = 2 * (total + z**2)
    centre = (2 * total * share + z**2) / denominator
    reach = z / denominator * math.sqrt(4 * total * share * (1 - share) + z**2)
    return centre - reach if right else 0.0, centre + reach if right < total else 1.0


def difference(right: float, total: float, other_right: float, other_total: float) -> Interval:
    """Return the 95 % interval of the difference of two proportions of independent samples, first less second.

    Computed from both Wilson intervals. Source: Newcombe 1998 (Statistics in Medicine 17), method 10.
    """
    first, second = right / total, other_right / other_total
    low, high = wilson(right, total)
    other_low, other_high = wilson(other_right, other_total)
    gap = first - second
    return (
        gap - math.hypot(first - low, other_high - second),
        gap + math.hypot(high - first, second - other_low),
    )


def people(count: int) -> str:
    """Return a sentence on which people an interval over clips is valid for; empty if their number is unknown."""
    if not count:
        return ""
    of, who = ("one person", "that person") if count == 1 else (f"{count} people", "these people")
    return (
        f"The clips are of {of}: intervals over clips say how the numbers would vary with other clips of {who}, not "
        "with other people."
    )


def sampled(clips: int, groups: int) -> str:
    """Return in words what an interval is over: "36 clips in 22 groups", or "36 clips" if each is its own group."""
    return plural(clips, "clip") + (f" in {plural(groups, 'group')}" if groups < clips else "")


def draws(sums: ClipSums, groups: Sequence[str] = (), resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Return [r c]: how often each clip occurs in each resample of as many groups, drawn with replacement."""
    return _drawn(groups or sums.clip.tolist(), resamples, seed)


def _drawn(groups: Sequence[Hashable], resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Return [r c]: how often each of these clips, given by its group, occurs in each resample."""
    number = numbered(groups)
    count = len(set(number))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn[:, number].astype(float)


def mean(values: np.ndarray, groups: Sequence[str]) -> Interval | None:
    """Return the 95 % interval of the mean of [c] a value per clip over resampled groups, or None for one group.

    Args:
        values: value of each clip, such as a difference of two conditions of the same clip.
        groups: group of each clip.
    """
    edges = _edges(len(values), groups)
    if edges is None:
        return None
    weights = _drawn(groups)
    low, high = np.quantile(weights @ values / weights.sum(axis=1), edges)
    return float(low), float(high)


def bootstrap(sums: ClipSums, weights: np.ndarray, groups: Sequence[str] = ()) -> dict[str, Interval]:
    """Return the 95 % intervals of hand and object metrics over resampled groups, where values are known.

    Args:
        sums: sums of the split.
        weights: resamples from ``draws``.
        groups: group of each clip of the sums.
    """
    edges = _edges(len(sums.clip), groups)
    if edges is None:
        return {}
    return _between(sums.hand_metrics(weights), edges)


def paired(sums: ClipSums, first: ClipSums, groups: Sequence[str] = ()) -> dict[str, Interval]:
    """Return the 95 % intervals of the metrics of an evaluation less those of a first one, where values are known.

    Both are of the same clips, which are drawn together; what makes a clip difficult for both is then no part of the
    interval.

    Args:
        sums: sums of the split.
        first: sums of the first evaluation.
        groups: group of each clip of the sums.
    """
    edges = _edges(len(sums.clip), groups)
    if edges is None:
        return {}
    weights = draws(sums, groups)
    own, other = sums.hand_metrics(weights), first.hand_metrics(weights)
    found = _between({name: own[name] - other[name] for name in own}, edges)
    known = sums.label != UNKNOWN
    labelled = [group for group, label in zip(groups, known, strict=True) if label] if groups else []
    for name, vote in VOTES.items():
        if interval := paired_difference(sums.correct(vote), first.correct(vote), labelled):
            found[name] = interval
    return found


def _between(drawn: Mapping[str, np.ndarray], edges: Interval) -> dict[str, Interval]:
    """Return the interval between two quantiles of the known values of each metric; none if none is known."""
    found = {}
    for name, values in drawn.items():
        known = values[~np.isnan(values)]
        if len(known):
            low, high = np.quantile(known, edges)
            found[name] = float(low), float(high)
    return found


def bands(sums: ClipSums, weights: np.ndarray, groups: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return {name of the area: [2 thresholds] lower and upper edge of its curve's 95 % band} over resampled groups."""
    edges = _edges(len(sums.clip), groups)
    if edges is None:
        return {}
    curves = {
        name: curve.fraction[~np.isnan(curve.fraction).any(axis=-1)] for name, curve in sums.curves(weights).items()
    }
    return {name: np.quantile(fraction, edges, axis=0) for name, fraction in curves.items() if len(fraction)}


def ahead(sums: ClipSums, weights: np.ndarray, groups: Sequence[str] = ()) -> np.ndarray | None:
    """Return [2 3 s] lower and upper edge of the 95 % intervals of ``Ahead.mean_mm`` over resampled groups, or None."""
    edges = _edges(len(sums.clip), groups)
    if edges is None or sums.ahead is None:
        return None
    drawn = sums.ahead.mean_mm(weights)
    known = np.where(np.isnan(drawn).all(axis=0), 0.0, drawn)  # else a warning for frames that no clip has
    found: np.ndarray = np.nanquantile(known, edges, axis=0)
    return found


def _edges(clips: int, groups: Sequence[str]) -> Interval | None:
    """Return the quantiles of resamples at the ends of an interval, or None if there are too few groups."""
    count = len(set(groups)) or clips
    if count < _FEWEST:
        return None
    if count == clips:
        return EDGES
    import scipy.special  # imported here: it takes a second, and not every command needs it

    below = scipy.special.stdtrit(count - 1, EDGES[0]) * math.sqrt(count / (count - 1))
    tail = float(scipy.special.ndtr(below))
    return tail, 1 - tail
