"""What sources of image files share: the frames of a clip, and what is wrong with them, said briefly."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from htt.data.sources import FRAME_LEFT_OUT, Problem, UnreadableError, _images, _text

NEAREST_M, FARTHEST_M = 0.03, 10.0
"""A joint is no nearer to the camera and no farther: zeros were written for a hand, or its unit is another."""
_SHAPE_TOLERANCE = 0.01
"""By how much width:height of an image may differ from its camera's: 455x256 is meant to be 16:9."""


@dataclass
class Findings:
    """What is wrong with a clip; files of frames in a row that are wrong alike become one problem."""

    root: Path
    """Of the data set; files are named relative to it."""
    problems: list[Problem] = field(default_factory=list)
    _runs: dict[tuple[Path, str, str], _Run] = field(default_factory=dict)

    def add(self, error: UnreadableError, effect: str, frames: int = 0) -> None:
        """A file that concerns some frames, or none."""
        self.problems.append(Problem(self.name(error.what), error.reason, effect, error.detail, frames))

    def frame(self, number: int, error: UnreadableError, effect: str) -> None:
        """A file of one frame; frames come in order."""
        self.frames(range(number, number + 1), lambda _: Path(error.what), error.reason, effect, error.detail)

    def frames(self, run: range, name: Callable[[int], Path], reason: str, effect: str, detail: str = "") -> None:
        """The files of frames in a row."""
        first, last, place = name(run[0]), name(run[-1]), len(self.problems)
        key = (first.parent, reason, effect)
        before = self._runs.get(key)
        if before and before.numbers.stop == run.start:
            first, place, detail = before.first, before.place, before.detail
            run = range(before.numbers.start, run.stop)
        what = self.name(first) + (f" to {last.name.rpartition(', ')[2]}" if len(run) > 1 else "")
        self.problems[place : place + 1] = [Problem(what, reason, effect, detail, len(run))]
        self._runs[key] = _Run(place, first, run, detail)

    def name(self, what: str | Path) -> str:
        """A file as problems call it: relative to the data set's folder."""
        path = Path(what)
        return _text.printable(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path)


@dataclass(frozen=True)
class _Run:
    """The frames of one problem; ``place`` is the problem's."""

    place: int
    first: Path
    numbers: range
    detail: str


@dataclass(frozen=True)
class Images:
    """The image files of one clip or recording."""

    there: dict[int, Path]
    """By the number of the frame."""
    name: Callable[[int], Path]
    """Where the image of a frame is, or should be."""


@dataclass(frozen=True)
class Names:
    """How the images of a data set are called."""

    pattern: re.Pattern[str]
    suffixes: Sequence[str]
    make: Callable[[int], str]
    """The name of a frame's image, for one that is missing."""

    def look(self, folders: Sequence[Path], wanted: range, size: tuple[int, int], found: Findings) -> Images:
        """The images in the folder that has most of the wanted frames; of equal ones, in that of the nearest size.

        Args:
            folders: where images may be; the first is named where none has any.
            wanted: the numbers of the frames.
            size: (width, height) they are wanted in.
            found: gets to know which was taken of several, and whether its images are too small.
        """
        choices: list[_Choice] = []
        for folder in folders:
            try:
                there = _text.numbered(folder, self.pattern, self.suffixes)
            except UnreadableError as error:
                found.add(error, "not used")
                continue
            if there:
                choices.append(_Choice.of(folder, there, wanted))
        if not choices:
            return self._in(folders[0], {})
        most = max(choice.frames for choice in choices)
        taken = min((each for each in choices if each.frames == most), key=lambda each: each.misfit(size))
        taken.say(choices, size, found)
        return self._in(taken.folder, taken.there)

    def _in(self, folder: Path, there: dict[int, Path]) -> Images:
        return Images(there, lambda number: there.get(number, folder / self.make(number)))


@dataclass(frozen=True)
class _Choice:
    """A folder that has images of a clip."""

    folder: Path
    there: dict[int, Path]
    frames: int
    """How many of the wanted ones."""
    wanted: int
    size: tuple[int, int] | None
    """(width, height) of its images, px; None if that cannot be read."""

    @classmethod
    def of(cls, folder: Path, there: dict[int, Path], wanted: range) -> _Choice:
        numbers = [number for number in there if number in wanted]
        size = _images.size_of(there[min(numbers)]) if numbers else None
        return cls(folder, there, len(numbers), len(wanted), size)

    def misfit(self, size: tuple[int, int]) -> tuple[int, int]:
        """Less for the asked size, then for larger images, then for smaller ones; the nearest of those first."""
        if self.size is None:
            return 3, 0
        area = self.size[0] * self.size[1]
        return (0, 0) if self.size == size else (2, -area) if self._is_smaller(size) else (1, area)

    def _is_smaller(self, size: tuple[int, int]) -> bool:
        return self.size is not None and (self.size[0] < size[0] or self.size[1] < size[1])

    def say(self, choices: Sequence[_Choice], size: tuple[int, int], found: Findings) -> None:
        """Name the folder that was taken, where there were several, or where its images must be enlarged."""
        if len(choices) > 1:
            others = "; ".join(found.name(each.folder) + f" has {each.frames}" for each in choices if each != self)
            detail = f"{self.frames} of {self.wanted} frames; {others}"
            found.add(UnreadableError(self.folder, "is one of several folders with its images", detail), "used")
        if self.size and self._is_smaller(size):
            detail = f"{self.size[0]}x{self.size[1]} px, {size[0]}x{size[1]} are asked for"
            found.add(UnreadableError(self.folder, "has images smaller than asked for", detail), "enlarged")


def roots(root: Path) -> list[Path]:
    """The folder of a data set, then the folders in it: an archive may be unpacked into one of its own."""
    try:
        return [root, *sorted(Path(entry.path) for entry in os.scandir(root) if entry.is_dir())]
    except OSError:
        return [root]


def find(root: Path, *names: str) -> Path:
    """The first of some files or folders that is there, below the folder of a data set or a folder in it."""
    paths = [each / name for each in roots(root) for name in names]
    return next((path for path in paths if os.path.lexists(path)), paths[0])


def distance_fault(joints_m: np.ndarray) -> str:
    """What is wrong with the joints [21 3] of a hand, in words; "" if nothing is."""
    distances_m = np.linalg.norm(joints_m, axis=-1)
    worst = distances_m.max() if distances_m.max() > FARTHEST_M else distances_m.min()
    return "" if NEAREST_M <= worst <= FARTHEST_M else f"a joint is {worst:.3g} m away"


def read(
    images: Images, wanted: range, camera: tuple[float, float], size: tuple[int, int, int], found: Findings
) -> dict[int, bytes]:
    """The frames of a clip that can be read, as JPEGs by their numbers, in order.

    Args:
        images: the clip's.
        wanted: the numbers of its frames.
        camera: (width, height) of the images its intrinsics are for; images have that shape, in any size.
        size: (width, height, quality) of the JPEGs.
        found: gets to know what is missing or broken.
    """
    width, height, quality = size
    for run in _text.gaps(wanted, images.there):
        found.frames(run, images.name, _text.MISSING, FRAME_LEFT_OUT)
    jpegs = {}
    for number in sorted(each for each in images.there if each in wanted):
        path = images.there[number]
        try:
            image, seen = _images.read(path, width, height)
            _check_shape(path, seen, camera)
        except UnreadableError as error:
            found.frame(number, error, FRAME_LEFT_OUT)
            continue
        jpegs[number] = _images.encode(image, quality)
    return jpegs


def _check_shape(path: Path, seen: tuple[int, int], camera: tuple[float, float]) -> None:
    """Intrinsics scaled to an image of another shape would be wrong without a word."""
    if abs(seen[0] * camera[1] / (seen[1] * camera[0]) - 1) > _SHAPE_TOLERANCE:
        raise UnreadableError(
            path, "has another shape than its camera", f"{seen[0]}x{seen[1]} px, {camera[0]:g}x{camera[1]:g} px"
        )
