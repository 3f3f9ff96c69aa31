"""Windows: the parts of a clip that the model sees at once.

A clip of L frames is cut into chunks of ``length * spacing`` frames. In every chunk, windows start at offsets
``0 .. spacing - 1`` for evaluation, so that each frame is seen exactly once, and at ``0 .. pose_window * spacing - 1``
for training: the paper's shifting windows. From its start, a window takes every ``spacing``-th frame until it has
``length`` frames or the clip ends; it may continue beyond its chunk.

The *observed* part of a clip of L frames is its first ``ceil(share * L)`` frames, for a share above 0 to 1. Its windows
are those of a clip that ends there: each window loses its later frames, and a window without an earlier one does not
exist. In training (``data.observed``) every window has a share of its own, large enough for its first frame. In an
evaluation (``htt.evaluation.early``) the windows of a clip have the same share and vote together.

A window holds real frames only. The released code pads each window to ``length`` frames; on H2O 68.5 % of its frames
are such padding. ``padded`` returns that form for comparison.

Source: Wen et al. 2023, section 3.4 and the released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from htt.config import Config

ROUNDING = 1e-9
"""Frames by which a share of a clip may exceed a whole number of frames and still be rounded to it."""


@dataclass(frozen=True)
class Window:
    """Some frames of one clip."""

    clip: int
    """Index of the clip."""
    start: int
    """Index of the first frame in the clip."""
    count: int
    """Number of frames."""
    spacing: int
    """Distance between two frames."""

    @property
    def part(self) -> slice:
        """Slice of the clip's frames; an array indexed by it is not copied."""
        return slice(self.start, self.start + self.count * self.spacing, self.spacing)

    @property
    def frames(self) -> np.ndarray:
        """Indices [t] of frames in the clip, ascending."""
        return np.arange(self.part.start, self.part.stop, self.spacing)

    def without_last(self, count: int) -> Window:
        """Return the window without its last frames."""
        return replace(self, count=self.count - count) if count else self


@dataclass(frozen=True)
class Windows(Sequence[Window]):
    """Windows of some clips, in order of clip, chunk and offset."""

    clip: np.ndarray
    """[w] index of each window's clip."""
    start: np.ndarray
    """[w] index of the first frame in the clip."""
    frame_count: np.ndarray
    """[w] number of frames."""
    spacing: int

    def clips_of(self, chosen: np.ndarray) -> np.ndarray:
        """Return the clip of each chosen window; see ``Assembler`` for ``chosen``."""
        clips: np.ndarray = self.clip[chosen % len(self)]
        return clips

    def __len__(self) -> int:
        return len(self.clip)

    def __getitem__(self, index: int) -> Window:  # type: ignore[override]
        return Window(int(self.clip[index]), int(self.start[index]), int(self.frame_count[index]), self.spacing)

    def __iter__(self) -> Iterator[Window]:
        return (self[index] for index in range(len(self)))


def cut(frame_counts: Sequence[int] | np.ndarray, *, length: int, spacing: int, starts: int) -> Windows:
    """Cut clips into windows.

    Args:
        frame_counts: number of frames of each clip.
        length: largest number of frames in a window (T in the paper).
        spacing: distance between two frames of a window, in frames of the clip.
        starts: windows start at offsets 0 .. starts - 1 of each chunk of ``length * spacing`` frames; starts beyond the
            end of the clip are dropped.
    """
    counts = np.asarray(frame_counts, dtype=np.int64)
    chunk = length * spacing
    chunks = -(-counts // chunk)
    clip = np.repeat(np.arange(len(counts)), chunks * starts)
    first = np.repeat(np.cumsum(chunks * starts) - chunks * starts, chunks * starts)
    position = np.arange(len(clip)) - first  # index within the clip: chunk by chunk, offset by offset
    start = position // starts * chunk + position % starts
    exists = start < counts[clip]
    clip, start = clip[exists], start[exists]
    count = np.minimum(length, -(-(counts[clip] - start) // spacing))
    return Windows(clip, start, count, spacing)


def training_windows(frame_counts: Sequence[int] | np.ndarray, config: Config) -> Windows:
    """Return the windows of a training epoch."""
    return cut(frame_counts, **cutting(config))


def cutting(config: Config) -> dict[str, int]:
    """Return the arguments of ``cut`` for training; configurations with equal arguments have the same windows."""
    data = config.data
    length = config.model.action.length
    shifts = min(config.model.pose.window, length) if data.shifted_starts else 1  # more would repeat later chunks
    return {"length": length, "spacing": data.spacing, "starts": data.spacing * shifts}


def evaluation_windows(frame_counts: Sequence[int] | np.ndarray, config: Config) -> Windows:
    """Return the windows of an evaluation, which together hold each frame exactly once."""
    spacing = config.data.spacing
    return cut(frame_counts, length=config.model.action.length, spacing=spacing, starts=spacing)


def observed_frames(frame_counts: np.ndarray, share: np.ndarray | float) -> np.ndarray:
    """Return the number of frames in the observed part of clips, 1 or more."""
    frames: np.ndarray = np.ceil(frame_counts * share - ROUNDING).astype(np.int64)
    return frames


def draw_observed(
    windows: Windows, frame_counts: np.ndarray, shares: tuple[float, float], random: np.random.Generator
) -> np.ndarray:
    """Return the [w] number of frames that a training epoch shows of each window, 1 or more.

    Args:
        windows: windows of the training clips.
        frame_counts: number of frames of each clip.
        shares: smallest and largest observed share. The share of a window is drawn between them, above the share at
            which the window begins; a window that begins after the largest shows one frame.
        random: source of the draws, one for each window.
    """
    frames = frame_counts[windows.clip]
    least = np.maximum(shares[0], (windows.start + 1) / frames)
    share = least + random.random(len(windows)) * np.maximum(shares[1] - least, 0)
    shown = -(-(observed_frames(frames, share) - windows.start) // windows.spacing)
    counts: np.ndarray = np.minimum(shown, windows.frame_count)
    return counts


def padded(window: Window, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a window as the released code pads it: frames [length], the last one repeated, and valid [length]."""
    frames = np.pad(window.frames, (0, length - window.count), mode="edge")
    return frames, np.arange(length) < window.count
