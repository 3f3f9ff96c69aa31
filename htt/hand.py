"""The hand: its 21 joints in canonical order, and the bones between them.

Every array of joints in this project has the same order: the wrist, then thumb, index, middle, ring and little finger,
each from the palm outward. It is H2O's order; a source with another order reorders in the conversion. With two hands,
the left one comes first: joints 0-20 left, 21-41 right.

Source: H2O data set documentation; Wen et al. 2023, section 4.1.
"""

from __future__ import annotations

import itertools

FINGERS = ("thumb", "index", "middle", "ring", "little")
PARTS = ("MCP", "PIP", "DIP", "tip")
"""Joints of one finger, from the palm outward. For the thumb they are anatomically CMC, MCP, IP and tip."""

JOINTS = ("wrist", *(f"{finger} {part}" for finger in FINGERS for part in PARTS))
"""Names of a hand's joints in canonical order."""

JOINTS_PER_HAND = len(JOINTS)
WRIST = 0

HANDS = ("left", "right")
"""Names of the hands in canonical order; a source with one hand has the right one."""


def hand_names(hands: int) -> tuple[str, ...]:
    """Return the names of the hands of a source: both, or only the right one.

    >>> hand_names(1)
    ('right',)
    """
    if hands not in (1, 2):
        raise ValueError(f"hands must be 1 or 2; got {hands}.")
    return HANDS if hands == len(HANDS) else HANDS[1:]


def _bones() -> tuple[tuple[int, int], ...]:
    pairs: list[tuple[int, int]] = []
    for finger in range(len(FINGERS)):
        first = 1 + len(PARTS) * finger
        chain = (WRIST, *range(first, first + len(PARTS)))
        pairs += itertools.pairwise(chain)
    return tuple(pairs)


BONES = _bones()
"""(parent, child) joint indices of the 20 bones of one hand, finger by finger."""
FINGER_OF_BONE = tuple(bone // len(PARTS) for bone in range(len(BONES)))
"""Index into FINGERS of each bone, for drawing."""
