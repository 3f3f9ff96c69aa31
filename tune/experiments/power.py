"""Number of seeds and comparisons with which a study can claim a difference."""

from __future__ import annotations

import math


def seeds_needed(comparisons: int) -> int:
    """The fewest paired seeds with which any of so many comparisons could be claimed.

    >>> [seeds_needed(comparisons) for comparisons in (1, 2, 3, 4, 6, 7)]
    [6, 7, 7, 8, 8, 9]
    """
    seeds = 1
    while comparisons_possible(seeds) < comparisons:
        seeds += 1
    return seeds


def comparisons_possible(seeds: int) -> int:
    """Over how many comparisons at most so many paired seeds could claim one.

    >>> [comparisons_possible(seeds) for seeds in (5, 6, 7, 8, 9)]
    [0, 1, 3, 6, 12]
    """
    return math.floor(LEVEL * 2**seeds / 2) if seeds > 0 else 0


LEVEL = 0.05
"""Of a claim that is false; intervals leave out as much."""
