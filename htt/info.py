"""The facts of a data set, which come with the data and are no configuration. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from htt.hand import JOINTS_PER_HAND

UNKNOWN = -1
"""A label that is not known (H2O's test clips have no action); it takes part in no loss and no metric."""


@dataclass(frozen=True)
class DataInfo:
    """What the data show: classes, hands and the size of images."""

    source: str
    actions: tuple[str, ...]
    objects: tuple[str, ...]
    hands: int
    """1 or 2; with one hand it is the right one."""
    width: int
    """Image width, px."""
    height: int
    """Image height, px."""

    @property
    def joints(self) -> int:
        """Joints of a frame, over all hands."""
        return self.hands * JOINTS_PER_HAND
