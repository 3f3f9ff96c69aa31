"""A source: one data set, as clips. Every module of ``htt/data/sources`` is one, and its file name is its name.

Such a module has ``source(root, config)``, which gives an object with what ``Source`` lists. It is asked for its clips
once, in parallel, while converting; training reads the shards that come out.

An unreadable or missing file never stops a conversion: ``read`` leaves the frame out, or the clip if nothing is left,
and says so, as a ``Problem`` that names the file. A frame whose image is whole but whose hands are not known is kept:
its hands are not valid.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from htt import registry
from htt.config import DataConfig
from htt.info import DataInfo


@dataclass(frozen=True)
class ClipKey:
    """What it takes to read one clip later, perhaps in another process."""

    id: str
    """Unique in its split."""
    frames: int
    """How many frames it should have."""
    place: Any
    """What the source alone understands; it pickles."""
    first: int = 0
    """The number of its first frame: ``first`` to ``first + frames - 1`` should be there."""

    @property
    def numbers(self) -> range:
        """The numbers of the frames it should have."""
        return range(self.first, self.first + self.frames)


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


@dataclass(frozen=True)
class Problem:
    """A file or clip that is not as it should be, and what became of it."""

    what: str
    """The file, relative to the source's folder, or the clip."""
    reason: str
    """What is wrong with it, in a few words that many share: "is missing", "is no whole image"."""
    effect: str
    """What follows: "frame left out", "clip left out", "hands not known"."""
    detail: str = ""
    """What exactly is wrong, where the reason does not say it all."""
    frames: int = 0
    """How many frames it concerns."""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.what} {self.reason}{detail}; {self.effect}"


FRAME_LEFT_OUT = "frame left out"
CLIP_LEFT_OUT = "clip left out"
HANDS_NOT_KNOWN = "hands not known"
"""The effects a conversion counts; a source may name others."""


class UnreadableError(Exception):
    """A file of a source that is missing or broken. A source catches it, makes it a ``Problem`` and goes on."""

    def __init__(self, what: str | Path, reason: str, detail: str = "") -> None:
        """``what`` is the file; ``reason`` and ``detail`` are those of a ``Problem``."""
        super().__init__(str(what), reason, " ".join(detail.split()))
        self.what, self.reason, self.detail = self.args

    def __str__(self) -> str:
        return f"{self.what} {self.reason}" + (f" ({self.detail})" if self.detail else "")


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

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """One clip, or None if no frame of it is readable; and what was wrong with it."""

    def differences(self) -> list[str]:
        """In what the data set here differs from what was published of it, a line each: clips, frames, classes.

        Nothing where it agrees, or where nothing was published. Quick: no frame is read.
        """


def open_source(name: str, root: str | Path | None = None, config: DataConfig | None = None) -> Source:
    """The source ``name``, reading below ``root``.

    Raises:
        ConfigError: there is no such source.
        DataError: its files are not there.
    """
    opened: Source = registry.load(sys.modules[__name__], name).source(
        None if root is None else Path(root), config or DataConfig()
    )
    return opened
