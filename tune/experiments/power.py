"""Number of seeds and comparisons with which a study can claim a difference."""

from __future__ import annotations

import math


def seeds_needed(comparisons: int) -> int:
    """Return the smallest number of paired seeds that can support a claim in ``comparisons`` comparisons.

    >>> [seeds_needed(comparisons) for comparisons in (1, 2, 3, 4, 6, 7)]
    [6, 7, 7, 8, 8, 9]
    """
    seeds = 1
    while comparisons_possible(seeds) < comparisons:
        seeds += 1
    return seeds


def comparisons_possible(seeds: int) -> int:
    """Return the largest number of comparisons in which ``seeds`` paired seeds can support a claim.

    >>> [comparisons_possible(seeds) for seeds in (5, 6, 7, 8, 9)]
    [0, 1, 3, 6, 12]
    """
    return math.floor(LEVEL * 2**seeds / 2) if seeds > 0 else 0


LEVEL = 0.05
"""Significance level of claims; intervals have the coverage 1 - ``LEVEL``."""
