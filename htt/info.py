"""Facts of a data set, which come with the data and are not configuration. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from htt.hand import JOINTS_PER_HAND

UNKNOWN = -1
"""Unknown label (H2O's test clips have no action); it is left out of every loss and metric."""


FRAME_RATES = {"synthetic": 15.0}
USUAL_FRAME_RATE = 30.0
"""Frames per second of sources, and of sources without an entry, as H2O and FPHA; older files do not hold the rate."""


NAMES = ("actions", "objects", "hand_types")
"""Fields of ``DataInfo`` that are lists of names."""


@dataclass(frozen=True)
class DataInfo:
    """Facts of a data set: classes, hands, image size and frame rate."""

    source: str
    actions: tuple[str, ...]
    objects: tuple[str, ...]
    hands: int
    """Number of hands, 1 or 2; with one hand it is the right one."""
    width: int
    """Image width, px."""
    height: int
    """Image height, px."""
    frame_rate: float = 0.0
    """Frames per second of a clip, before frames are spaced; 0 is replaced by the usual rate of the source."""
    hand_types: tuple[str, ...] = ()
    """Names of what a hand can do in a frame, such as a grasp; empty if the data do not name it."""

    def __post_init__(self) -> None:
        if not self.frame_rate:
            object.__setattr__(self, "frame_rate", FRAME_RATES.get(self.source, USUAL_FRAME_RATE))

    @property
    def joints(self) -> int:
        """Number of joints of a frame, over all hands."""
        return self.hands * JOINTS_PER_HAND
