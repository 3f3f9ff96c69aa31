"""Facts of a data set, which come with the data and are not configuration. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from htt.hand import JOINTS_PER_HAND

UNKNOWN = -1
"""Unknown label (H2O's test clips have no action); it is left out of every loss and metric."""


@dataclass(frozen=True)
class DataInfo:
    """Facts of a data set: classes, hands and image size."""

    source: str
    actions: tuple[str, ...]
    objects: tuple[str, ...]
    hands: int
    """Number of hands, 1 or 2; with one hand it is the right one."""
    width: int
    """Image width, px."""
    height: int
    """Image height, px."""

    @property
    def joints(self) -> int:
        """Number of joints of a frame, over all hands."""
        return self.hands * JOINTS_PER_HAND
