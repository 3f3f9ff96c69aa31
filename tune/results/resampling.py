"""What is drawn again and again to tell a difference from noise: signs of seeds, and seeds with clips.

A paired difference is a table [s c]: a row for each seed, trained twice with the same order of data, and a column for
each clip, which all seeds are judged by. Letters: ``s`` seeds, ``c`` clips, ``r`` drawings.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping

import numpy as np

from tune.experiments.power import LEVEL

EXACT_SEEDS = 16
"""Up to so many seeds, all signs are tried; beyond, ``FLIPS`` of them are drawn."""
FLIPS = 2**EXACT_SEEDS
_ROUNDING = 1e-12
"""Relative to the largest difference, what counts as equal."""


def sign_flip(differences: np.ndarray, seed: int = 0) -> float:
    """The exact two-sided p of a mean of paired differences [s], had every sign been as likely the other way.

    The share of all 2^s signs whose mean is as far from zero as the one seen: never below 2 / 2^s. Beyond
    ``EXACT_SEEDS`` seeds the signs are drawn, and the one seen counts as one more of them (Phipson and Smyth 2010).
    """
    count = len(differences)
    if count <= EXACT_SEEDS:
        signs = _all_signs(count)
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(FLIPS, count))
        signs = np.vstack([signs, np.ones(count)])
    least = abs(differences.sum()) - _ROUNDING * np.abs(differences).sum()
    return float((np.abs(signs @ differences) >= least).mean())


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """{name: p} after Holm's correction, so that any false claim among them is as rare as ``LEVEL``.

    The smallest is multiplied by their number, the next by one less, and so on; none may fall below one before it.
    Source: Holm 1979.
    """
    corrected: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p, key=lambda name: p[name])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p}


def draw_means(differences: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means [r] of a table of differences [s c], had other seeds been trained and other clips been judged.

    A hierarchical bootstrap: seeds are drawn with replacement, then clips, the same for all seeds since every seed was
    judged by the same clips. Drawn plainly, six seeds vary too little (by 5/6, and with a normal's tails), and what
    neither seed nor clip explains counts three times (Owen 2007, "The pigeonhole bootstrap"): intervals that should
    hold 95 % then held 85 % to 100 % of simulated truths. So the three parts of the table - of seeds, of clips, and the
    rest - are scaled first to variances that analysis of variance calls unbiased (Davison and Hinkley 1997, section
    3.8), and the drawn means are spread by t / z (Hesterberg 2015, "What teachers should know about the bootstrap").

    Args:
        differences: of two seeds at least.
        resamples: how many means.
        seed: determines what is drawn.
    """
    seeds, clips = differences.shape
    mean = differences.mean()
    of_seeds, of_clips, rest = _parts(differences - mean)
    freedom = np.array([seeds - 1, max(clips - 1, 1), (seeds - 1) * max(clips - 1, 1)])
    squares = np.array([clips * (of_seeds**2).sum(), seeds * (of_clips**2).sum(), (rest**2).sum()]) / freedom
    above = np.maximum(squares - squares[2], 0)  # 0: the part is no larger than what the rest alone would make it
    variances = np.array([above[0] / clips, above[1] / seeds, squares[2]])
    scaled = _scaled(of_seeds, variances[0]) + _scaled(of_clips, variances[1]) + _scaled(rest, variances[2])

    drawn_seeds, drawn_clips = _drawn(seeds, clips, resamples, seed)
    means = ((drawn_seeds @ scaled) * drawn_clips).sum(axis=1)
    return np.asarray(mean + _spread(squares, above, freedom) * means)


@functools.lru_cache(maxsize=1)
def _all_signs(count: int) -> np.ndarray:
    """[2^s s] every choice of signs; kept, since a study asks for the same again and again."""
    return np.array(list(itertools.product((-1.0, 1.0), repeat=count))).reshape(2**count, count)


@functools.lru_cache(maxsize=1)
def _drawn(seeds: int, clips: int, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares of each seed [r s] and each clip [r c] in drawings; kept, since all variants have the same."""
    random = np.random.default_rng(seed)
    drawn_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    return drawn_seeds, random.multinomial(clips, np.full(clips, 1 / clips), resamples) / clips


def _parts(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What seeds [s 1] and clips [1 c] add to the mean, and the rest [s c]; rounding errors are zero."""
    of_seeds = centred.mean(axis=1, keepdims=True)
    of_clips = centred.mean(axis=0, keepdims=True)
    rest = centred - of_seeds - of_clips
    tiny = _ROUNDING * np.abs(centred).max()
    first, second, third = (np.where(np.abs(part) <= tiny, 0.0, part) for part in (of_seeds, of_clips, rest))
    return first, second, third


def _scaled(part: np.ndarray, variance: float) -> np.ndarray:
    """The part with that mean square."""
    now = (part**2).mean()
    return np.asarray(part * np.sqrt(variance / now)) if now else part


def _spread(squares: np.ndarray, above: np.ndarray, freedom: np.ndarray) -> float:
    """How much wider Student's t is than the normal, with the freedom of this sum of mean squares (Satterthwaite)."""
    taken = np.array([above[0] > 0, above[1] > 0, 0.0])
    taken[2] = 1 - taken[0] - taken[1]
    parts = taken * squares
    if not parts.any():
        return 1.0
    tail = 1 - LEVEL / 2
    known = parts.sum() ** 2 / (parts**2 / freedom).sum()
    import scipy.stats  # late: a second, and not every command computes

    return float(scipy.stats.t.ppf(tail, known) / scipy.stats.norm.ppf(tail))
