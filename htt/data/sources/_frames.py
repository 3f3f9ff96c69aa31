"""Shared code of sources with image files: finding and reading the frames of a clip, and reporting problems."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from htt.data.sources import FRAME_LEFT_OUT, Problem, UnreadableError, _images, _text
from htt.errors import DataError

NEAREST_M, FARTHEST_M = 0.03, 10.0
"""Valid range of the distance of a joint from the camera; values outside it are zeros or have another unit."""
_SHAPE_TOLERANCE = 0.01
"""Largest relative difference between the aspect ratios of an image and its camera: 455x256 counts as 16:9."""


@dataclass
class Findings:
    """Collector of a clip's problems; the same fault in files of consecutive frames becomes one problem."""

    root: Path
    """Folder of the data set; files are named relative to it."""
    problems: list[Problem] = field(default_factory=list)
    _runs: dict[tuple[Path, str, str], _Run] = field(default_factory=dict)

    def add(self, error: UnreadableError, effect: str, frames: int = 0) -> None:
        """Add a problem of a file that affects some frames, or none."""
        self.problems.append(Problem(self.name(error.what), error.reason, effect, error.detail, frames))

    def frame(self, number: int, error: UnreadableError, effect: str) -> None:
        """Add a problem of one frame's file; call in the order of frames."""
        self.frames(range(number, number + 1), lambda _: Path(error.what), error.reason, effect, error.detail)

    def frames(self, run: range, name: Callable[[int], Path], reason: str, effect: str, detail: str = "") -> None:
        """Add a problem of the files of consecutive frames."""
        first, last, index = name(run[0]), name(run[-1]), len(self.problems)
        key = (first.parent, reason, effect)
        before = self._runs.get(key)
        if before and before.numbers.stop == run.start:
            first, index, detail = before.first, before.index, before.detail
            run = range(before.numbers.start, run.stop)
        what = self.name(first) + (f" to {last.name.rpartition(', ')[2]}" if len(run) > 1 else "")
        self.problems[index : index + 1] = [Problem(what, reason, effect, detail, len(run))]
        self._runs[key] = _Run(index, first, run, detail)

    def name(self, what: str | Path) -> str:
        """Return the name of a file in problems: its path relative to the data set's folder."""
        path = Path(what)
        return _text.printable(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path)


@dataclass(frozen=True)
class _Run:
    """Consecutive frames of one problem; ``index`` is the index of the problem."""

    index: int
    first: Path
    numbers: range
    detail: str


@dataclass(frozen=True)
class Images:
    """Image files of a clip or recording."""

    paths: dict[int, Path]
    """Path of each existing image, by frame number."""
    name: Callable[[int], Path]
    """Function that returns the actual or expected path of a frame's image."""


@dataclass(frozen=True)
class Names:
    """Naming scheme of the images of a data set."""

    pattern: re.Pattern[str]
    suffixes: Sequence[str]
    make: Callable[[int], str]
    """Function that returns the expected name of a missing image."""

    def look(self, folders: Sequence[Path], wanted: range, size: tuple[int, int], findings: Findings) -> Images:
        """Find the images of a clip: in the folder with the most wanted frames, or, of equal ones, the nearest size.

        Args:
            folders: candidate folders; the first is reported if no folder has images.
            wanted: numbers of the wanted frames.
            size: wanted (width, height), px.
            findings: collector; records the chosen one of several folders, and images that are too small.
        """
        choices: list[_Choice] = []
        for folder in folders:
            try:
                paths = _text.numbered(folder, self.pattern, self.suffixes)
            except UnreadableError as error:
                findings.add(error, "not used")
                continue
            if paths:
                choices.append(_Choice.of(folder, paths, wanted))
        if not choices:
            return self._in(folders[0], {})
        most = max(choice.frames for choice in choices)
        taken = min((each for each in choices if each.frames == most), key=lambda each: each.misfit(size))
        taken.report(choices, size, findings)
        return self._in(taken.folder, taken.paths)

    def _in(self, folder: Path, paths: dict[int, Path]) -> Images:
        return Images(paths, lambda number: paths.get(number, folder / self.make(number)))


@dataclass(frozen=True)
class _Choice:
    """Candidate folder with images of a clip."""

    folder: Path
    paths: dict[int, Path]
    frames: int
    """Number of wanted frames in the folder."""
    wanted: int
    size: tuple[int, int] | None
    """(width, height) of its images, px, or None if unreadable."""

    @classmethod
    def of(cls, folder: Path, paths: dict[int, Path], wanted: range) -> _Choice:
        numbers = [number for number in paths if number in wanted]
        size = _images.size_of(paths[min(numbers)]) if numbers else None
        return cls(folder, paths, len(numbers), len(wanted), size)

    def misfit(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return a sort key: the wanted size first, then larger images, then smaller ones, the nearest size first."""
        if self.size is None:
            return 3, 0
        area = self.size[0] * self.size[1]
        return (0, 0) if self.size == size else (2, -area) if self._is_smaller(size) else (1, area)

    def _is_smaller(self, size: tuple[int, int]) -> bool:
        return self.size is not None and (self.size[0] < size[0] or self.size[1] < size[1])

    def report(self, choices: Sequence[_Choice], size: tuple[int, int], findings: Findings) -> None:
        """Record the chosen folder if there were several, and images that must be enlarged."""
        if len(choices) > 1:
            others = "; ".join(findings.name(each.folder) + f" has {each.frames}" for each in choices if each != self)
            detail = f"{self.frames} of {self.wanted} frames; {others}"
            findings.add(UnreadableError(self.folder, "is one of several folders with its images", detail), "used")
        if self.size and self._is_smaller(size):
            detail = f"{self.size[0]}x{self.size[1]} px, requested {size[0]}x{size[1]}"
            findings.add(UnreadableError(self.folder, "has images smaller than requested", detail), "enlarged")


def data_folder(root: Path | None, name: str) -> Path:
    """Return the folder of a data set.

    Raises:
        DataError: there is no such folder.
    """
    if root is None or not os.path.isdir(root):
        got = f"got {_text.printable(root)}, which is not a folder"
        raise DataError(f"--root must be the folder {name} was unpacked to; {got}.")
    return root


def roots(root: Path) -> list[Path]:
    """Return the folder of a data set and its subfolders, because archives may be unpacked into subfolders."""
    try:
        return [root, *sorted(Path(entry.path) for entry in os.scandir(root) if entry.is_dir())]
    except OSError:
        return [root]


def find(root: Path, *names: str) -> Path:
    """Return the first existing file or folder of some names, in the folder of a data set or one of its subfolders."""
    paths = [each / name for each in roots(root) for name in names]
    return next((path for path in paths if os.path.lexists(path)), paths[0])


def distance_fault(joints_m: np.ndarray) -> str:
    """Return a description of the fault in a hand's joints [21 3], m, or "" if there is none."""
    distances_m = np.linalg.norm(joints_m, axis=-1)
    worst = distances_m.max() if distances_m.max() > FARTHEST_M else distances_m.min()
    return "" if NEAREST_M <= worst <= FARTHEST_M else f"a joint is {worst:.3g} m from the camera"


def read(
    images: Images, wanted: range, camera: tuple[float, float], size: tuple[int, int, int], findings: Findings
) -> dict[int, bytes]:
    """Read the frames of a clip; return the readable ones as JPEGs by frame number, in order.

    Args:
        images: image files of the clip.
        wanted: numbers of the clip's frames.
        camera: (width, height) of the images the intrinsics are for, px; images may have any size of the same aspect
            ratio.
        size: (width, height, quality) of the JPEGs; with quality 0, no file is read and all JPEGs are empty.
        findings: collector of missing and broken files.
    """
    width, height, quality = size
    if not quality:
        return dict.fromkeys(wanted, b"")
    for run in _text.gaps(wanted, images.paths):
        findings.frames(run, images.name, _text.MISSING, FRAME_LEFT_OUT)
    jpegs = {}
    for number in sorted(each for each in images.paths if each in wanted):
        path = images.paths[number]
        try:
            image, seen = _images.read(path, width, height)
            _check_shape(path, seen, camera)
        except UnreadableError as error:
            findings.frame(number, error, FRAME_LEFT_OUT)
            continue
        jpegs[number] = _images.encode(image, quality)
    return jpegs


def _check_shape(path: Path, seen: tuple[int, int], camera: tuple[float, float]) -> None:
    """Raise an error if an image has another aspect ratio than its camera: scaled intrinsics would be wrong."""
    if abs(seen[0] * camera[1] / (seen[1] * camera[0]) - 1) > _SHAPE_TOLERANCE:
        raise UnreadableError(
            path, "has another aspect ratio than its camera", f"{seen[0]}x{seen[1]} px, {camera[0]:g}x{camera[1]:g} px"
        )
