"""What sources of image files share: the frames of a clip, and what is wrong with them, said briefly."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from htt.data import pixels, reading
from htt.data.source import FRAME_LEFT_OUT, Problem, UnreadableError

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
        self.problems.append(Problem(self._name(error.what), error.reason, effect, error.detail, frames))

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
        what = self._name(first) + (f" to {last.name.rpartition(', ')[2]}" if len(run) > 1 else "")
        self.problems[place : place + 1] = [Problem(what, reason, effect, detail, len(run))]
        self._runs[key] = _Run(place, first, run, detail)

    def _name(self, what: str | Path) -> str:
        path = Path(what)
        return reading.printable(path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path)


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

    def look(self, folders: Sequence[Path], found: Findings) -> Images:
        """The images in the first of some folders that has any."""
        for folder in folders:
            try:
                there = reading.numbered(folder, self.pattern, self.suffixes)
            except UnreadableError as error:
                found.add(error, "not used")
                continue
            if there:
                return self._in(folder, there)
        return self._in(folders[0], {})

    def _in(self, folder: Path, there: dict[int, Path]) -> Images:
        return Images(there, lambda number: there.get(number, folder / self.make(number)))


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
    for run in reading.gaps(wanted, images.there):
        found.frames(run, images.name, reading.MISSING, FRAME_LEFT_OUT)
    jpegs = {}
    for number in sorted(each for each in images.there if each in wanted):
        path = images.there[number]
        try:
            image, seen = pixels.read(path, width, height)
            _check_shape(path, seen, camera)
        except UnreadableError as error:
            found.frame(number, error, FRAME_LEFT_OUT)
            continue
        jpegs[number] = pixels.encode(image, quality)
    return jpegs


def _check_shape(path: Path, seen: tuple[int, int], camera: tuple[float, float]) -> None:
    """Intrinsics scaled to an image of another shape would be wrong without a word."""
    if abs(seen[0] * camera[1] / (seen[1] * camera[0]) - 1) > _SHAPE_TOLERANCE:
        raise UnreadableError(
            path, "has another shape than its camera", f"{seen[0]}x{seen[1]} px, {camera[0]:g}x{camera[1]:g} px"
        )
