"""A source: one data set, as clips. Every module of ``htt/data/sources`` is one, and its file name is its name.

Such a module has ``source(root, config)``, which gives an object with what ``Source`` lists. It is asked for its clips
once, in parallel, while converting; training reads the shards that come out.

An unreadable or missing file never stops a conversion: ``read`` leaves the frame out, or the clip if nothing is left,
and says so, by the file's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from htt import registry
from htt.config import DataConfig

if TYPE_CHECKING:  # a process that reads clips needs no torch
    from htt.batch import DataInfo


@dataclass(frozen=True)
class ClipKey:
    """What it takes to read one clip later, perhaps in another process."""

    id: str
    """Unique in its split."""
    frames: int
    """How many frames it should have."""
    place: Any
    """What the source alone understands; it pickles."""


@dataclass(frozen=True)
class ClipRecord:
    """One clip, as a row of a shard."""

    id: str
    subject: str
    action: int
    """Index of the action; -1 where it is not known."""
    object: int
    """Index of the object; -1 where it is not known."""
    intrinsics: np.ndarray
    """[3 3] float64, px of the frames as they are here."""
    width: int
    """px."""
    height: int
    """px."""
    frame_numbers: list[int]
    """What the source calls each frame."""
    jpegs: list[bytes]
    """One JPEG a frame."""
    joints_m: np.ndarray
    """[t j 3] float32, camera space, metres; anything where the hand is not valid."""
    hand_valid: np.ndarray
    """[t hands] bool: the hand is in the frame."""


class UnreadableError(Exception):
    """A file of a source that is missing or broken; the message names it. A source catches it and goes on."""


class Source(Protocol):
    """A data set, as clips. It pickles, so that clips can be read in other processes."""

    @property
    def name(self) -> str:
        """That of its module."""

    @property
    def pixels(self) -> str:
        """How ``read`` makes its frames: what is resized, and how."""

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits."""

    def info(self, width: int, height: int) -> DataInfo:
        """The facts of the data set when its frames are ``width`` x ``height`` px."""

    def clips(self, split: str) -> list[ClipKey]:
        """The clips of a split, always in the same order.

        Raises:
            DataError: the source's files are not there, or its list of clips cannot be read.
        """

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[str]]:
        """One clip, or None if no frame of it is readable; and a sentence for each file that is not."""


def open_source(name: str, root: str | Path | None = None, config: DataConfig | None = None) -> Source:
    """The source ``name``, reading below ``root``.

    Raises:
        ConfigError: there is no such source.
        DataError: its files are not there.
    """
    from htt.data import sources

    opened: Source = registry.load(sources, name).source(None if root is None else Path(root), config or DataConfig())
    return opened
