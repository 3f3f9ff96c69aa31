"""Data sources. Each public module of ``htt/data/sources`` is a source, named by its file name.

Such a module has a function ``source(root, config)``, which returns an implementation of ``Source``. A source is read
once, in parallel, by the conversion; training reads the resulting shards.

An unreadable or missing file never stops a conversion: ``read`` leaves out the frame, or the clip if no frame is left,
and reports a ``Problem`` that names the file. A frame with a complete image but without known hands is kept, and its
hands are marked as not valid.
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
    """Key of a clip: all that is needed to read it later, perhaps in another process."""

    id: str
    """Identifier, unique in its split."""
    frames: int
    """Number of frames the clip should have."""
    entry: Any
    """Data that only the source interprets; can be pickled."""
    first: int = 0
    """Number of the first frame: the clip should have frames ``first`` to ``first + frames - 1``."""

    @property
    def numbers(self) -> range:
        """Numbers of the frames the clip should have."""
        return range(self.first, self.first + self.frames)


@dataclass(frozen=True)
class Encoded:
    """Features of a clip's frames, in place of their images."""

    features: np.ndarray
    """[v t d] float16: of the plain images (index 0), then of each augmented copy of the clip."""
    shifts_px: np.ndarray
    """[v 2] float32: movement of a copy's image to the right and down, px; its 2D targets move along."""


@dataclass(frozen=True)
class ClipRecord:
    """Clip as stored in a row of a shard."""

    id: str
    subject: str
    action: int
    """Index of the action, or -1 if unknown."""
    object: int
    """Index of the object, or -1 if unknown."""
    intrinsics: np.ndarray
    """[3 3] float64, for frames of ``width`` x ``height``, px."""
    width: int
    """Width of the frames, px."""
    height: int
    """Height of the frames, px."""
    frame_numbers: list[int]
    """Frame numbers used by the source."""
    jpegs: list[bytes]
    """One JPEG per frame; empty if the clip is encoded, or if it has poses without images."""
    joints_m: np.ndarray
    """[t j 3] float32, camera space, metres; undefined where the hand is not valid."""
    hand_valid: np.ndarray
    """[t hands] bool, True where the hand is in the frame."""
    encoded: Encoded | None = None
    """Features in place of the JPEGs, or None."""
    group: str = ""
    """Name of what makes this clip and others alike, such as their recording; "" if it is like no other clip."""
    hand_types: np.ndarray | None = None
    """[t hands] index into the names of hand types, or -1 if unknown; None if the source does not name them."""


@dataclass(frozen=True)
class Problem:
    """Faulty file or clip, and the consequence for the shards."""

    what: str
    """Path of the file, relative to the source's folder, or name of the clip."""
    reason: str
    """Kind of fault, in few words shared by many problems: "is missing", "is not a complete image"."""
    effect: str
    """Consequence: "frame left out", "clip left out", "hands not known"."""
    detail: str = ""
    """Details of the fault, or ""."""
    frames: int = 0
    """Number of affected frames."""

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return f"{self.what} {self.reason}{detail}; {self.effect}"


FRAME_LEFT_OUT = "frame left out"
CLIP_LEFT_OUT = "clip left out"
HANDS_NOT_KNOWN = "hands not known"
"""Effects counted by a conversion; a source may use others."""


class UnreadableError(Exception):
    """Raised for a missing or broken file of a source. A source catches it, reports a ``Problem`` and continues."""

    def __init__(self, what: str | Path, reason: str, detail: str = "") -> None:
        """Create the error; ``what`` is the file, ``reason`` and ``detail`` are those of a ``Problem``."""
        super().__init__(str(what), reason, " ".join(detail.split()))
        self.what, self.reason, self.detail = self.args

    def __str__(self) -> str:
        return f"{self.what} {self.reason}" + (f" ({self.detail})" if self.detail else "")


class Source(Protocol):
    """Interface of a data set as clips. Can be pickled, so that clips can be read in other processes."""

    @property
    def name(self) -> str:
        """Name of the source's module."""

    @property
    def pixels(self) -> str:
        """Description of how ``read`` makes frames, such as the resizing."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""

    def info(self, width: int, height: int) -> DataInfo:
        """Return the facts of the data set for frames of ``width`` x ``height`` px."""

    def clips(self, split: str) -> list[ClipKey]:
        """Return the clips of a split, always in the same order.

        Raises:
            DataError: the source's files are missing, or its list of clips cannot be read.
        """

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Read a clip; return None if no frame is readable, and the problems.

        ``quality`` is that of the JPEGs, or 0 to read the poses without any image: each frame of the clip is then
        readable, and the conversion drops the JPEGs.
        """

    def differences(self) -> list[str]:
        """Return the differences from the published data set in clips, frames and classes, one per line.

        The list is empty if they agree or if nothing was published. Fast: reads no frame.
        """


def open_source(name: str, root: str | Path | None = None, config: DataConfig | None = None) -> Source:
    """Open the source ``name`` with its files in ``root``.

    Raises:
        ConfigError: there is no such source.
        DataError: its files are missing.
    """
    opened: Source = registry.load(sys.modules[__name__], name).source(
        None if root is None else Path(root), config or DataConfig()
    )
    return opened
