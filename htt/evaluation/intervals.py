"""95 % intervals of metrics, for splits of some hundred clips.

Clips are the sampled units: the frames of a clip resemble one another, so errors and the accuracy of frames are
resampled clip by clip (percentile bootstrap). The accuracy of clips is a fraction of independent trials: it gets
Wilson's score interval, which is also right for few clips and for fractions near 1.
"""

from __future__ import annotations

import math

import numpy as np

from htt.evaluation.sums import ClipSums

LEVEL = 0.95
EDGES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""Quantiles at the ends of an interval."""
RESAMPLES = 2000
SEED = 0
_FEWEST = 2
"""Smallest number of clips for which the variation between clips can be estimated."""

Interval = tuple[float, float]


def wilson(right: int, total: int) -> Interval:
    """Return Wilson's 95 % score interval of ``right`` out of ``total`` independent trials.

    Source: Wilson 1927; computed by SciPy.
    """
    import scipy.stats  # imported here: it takes a second, and not every command needs it

    found = scipy.stats.binomtest(int(right), int(total)).proportion_ci(LEVEL, method="wilson")
    return float(found.low), float(found.high)


def difference(right: int, total: int, other_right: int, other_total: int) -> Interval:
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


def draws(sums: ClipSums, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Return [r c]: how often each clip occurs in each resample of as many clips, drawn with replacement."""
    clips = len(sums.clip)
    return np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=resamples).astype(float)


def bootstrap(sums: ClipSums, weights: np.ndarray) -> dict[str, Interval]:
    """Return the 95 % intervals of hand and object metrics over resampled clips, where values are known.

    Args:
        sums: sums of the split.
        weights: resamples from ``draws``.
    """
    if len(sums.clip) < _FEWEST:
        return {}
    found = {}
    for name, values in sums.hand_metrics(weights).items():
        known = values[~np.isnan(values)]
        if len(known):
            low, high = np.quantile(known, EDGES)
            found[name] = float(low), float(high)
    return found


def bands(sums: ClipSums, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return {name of the area: [2 thresholds] lower and upper edge of its curve's 95 % band} over resampled clips."""
    if len(sums.clip) < _FEWEST:
        return {}
    curves = {
        name: curve.fraction[~np.isnan(curve.fraction).any(axis=-1)] for name, curve in sums.curves(weights).items()
    }
    return {name: np.quantile(fraction, EDGES, axis=0) for name, fraction in curves.items() if len(fraction)}
