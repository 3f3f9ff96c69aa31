"""Own data: a folder with a table of clips, and for each clip its images or a video, and its joints if they are known.

Files, in the folder of the data::

    clips.csv           a row per clip, with the columns
                        id, split (train, val or test), action, object
                        subject, group      optional; group names clips that are alike, such as those of one recording
                        fx, fy, cx, cy      optional; intrinsics of the clip's images, px
    ID/                 images of the clip, in the order of the numbers in their names; or a video in this folder
    ID.mp4              or a video (mp4, mkv, avi, mov, webm, m4v)
    ID.parquet          optional; a row per image, columns right and left: 63 numbers, x y z of the 21 joints of
                        ``htt.hand`` in camera space, metres, or null if the hand is not in the image

An empty action or object is unknown. Images of another aspect ratio than requested lose their edges, as in predictions.
The frame rate of the data is that of the videos, or 30 frames/s; of videos with different rates it is the lowest, and
the others are resampled: the frames nearest in time are used. Without intrinsics, a horizontal field of view of
``FOV_DEG`` is assumed. Without images, only poses can be converted; the image is then taken to have its centre at
(cx, cy). See docs/own_data.md.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from htt import camera, files, video
from htt.config import DataConfig
from htt.data.sources import (
    CLIP_LEFT_OUT,
    FRAME_LEFT_OUT,
    HANDS_NOT_KNOWN,
    ClipKey,
    ClipRecord,
    Problem,
    UnreadableError,
    _frames,
    _images,
    _text,
)
from htt.data.sources._frames import Findings
from htt.data.sources.frames import joints, table
from htt.data.sources.frames.table import Row
from htt.errors import DataError
from htt.fitting import fitting
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.info import USUAL_FRAME_RATE, DataInfo
from htt.text import plural
from htt.video import VideoFile

FOV_DEG = 90.0
"""Horizontal field of view of a camera without intrinsics, degrees."""

RATE_TOLERANCE = 0.01
"""Largest relative difference of the frame rates of two videos that are taken to be alike."""

Size = tuple[int, int]
"""Width and height, px."""


@dataclass(frozen=True)
class Entry:
    """Row of a clip and its labels; number of hands of the data, and the images that are used."""

    row: Row
    action: int
    object: int
    hands: int
    images: int
    """Number of images of the clip, or of frames of its video."""
    used: Sequence[int]
    """Index of the image of each frame."""


@dataclass(frozen=True)
class FramesSource:
    """Own data in the folder ``root``."""

    root: Path
    name: str = "frames"
    pixels: str = f"centre of the image, resized by Pillow, bilinear with antialiasing; {_images.JPEG}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits in the table."""
        used = {row.split for row in table.read(self.root).rows}
        return tuple(split for split in table.SPLITS if split in used)

    def info(self, width: int, height: int) -> DataInfo:
        """Return the facts of the data: two hands if any file of joints has a left one."""
        found = table.read(self.root)
        classes = found.actions, found.objects
        return DataInfo(self.name, *classes, self._hands(found), width, height, self._frame_rate(found))

    @property
    def table_digest(self) -> str:
        """Digest of the table, so that shards of another table are not taken for those of this one."""
        return hashlib.sha256(repr(table.read(self.root)).encode()).hexdigest()[:12]

    def clips(self, split: str) -> list[ClipKey]:
        """Return the clips of a split, in the order of the table."""
        found = table.read(self.root)
        hands, rate = self._hands(found), self._frame_rate(found)
        keys = []
        for row in (row for row in found.rows if row.split == split):
            images, used = self._used(row, rate)
            keys.append(ClipKey(row.id, len(used), Entry(row, *found.labels(row), hands, images, used)))
        return keys

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Read a clip; a frame without joints is kept, and its hands are not valid."""
        entry: Entry = key.entry
        row, findings, wanted = entry.row, Findings(self.root), (width, height)
        shape = entry.images, entry.hands
        joints_m = np.zeros((entry.images, entry.hands * JOINTS_PER_HAND, 3), np.float32)
        valid = np.zeros(shape, bool)
        path = self._joints(row)
        if path.is_file() or not quality:
            try:
                joints_m, valid = joints.read(path, *shape, findings)
            except UnreadableError as error:
                findings.add(error, HANDS_NOT_KNOWN if quality else CLIP_LEFT_OUT, key.frames)
                if not quality:
                    return None, findings.problems
        joints_m, valid = joints_m[list(entry.used)], valid[list(entry.used)]
        if quality:
            seen, jpegs = self._jpegs(key, wanted, quality, findings)
            if 0 < len(jpegs) < key.frames and not self._paths(row) and valid.any():
                unsure = UnreadableError(f"clip {row.id}", "lacks frames, so its joints may belong to other frames")
                findings.add(unsure, HANDS_NOT_KNOWN, len(jpegs))
                valid[:] = False
        else:
            seen, jpegs = _around(row, wanted), dict.fromkeys(key.numbers, b"")
        if not jpegs and not any(problem.effect == CLIP_LEFT_OUT for problem in findings.problems):
            findings.add(UnreadableError(f"clip {row.id}", "has no readable frame"), CLIP_LEFT_OUT)
        if not jpegs:
            return None, findings.problems
        kept = list(jpegs)
        record = ClipRecord(
            id=row.id,
            subject=row.subject,
            action=entry.action,
            object=entry.object,
            intrinsics=fitting(seen, wanted).intrinsics(_matrix(row, seen)),
            width=width,
            height=height,
            frame_numbers=kept,
            jpegs=list(jpegs.values()),
            joints_m=joints_m[kept],
            hand_valid=valid[kept],
            group=row.group,
        )
        return record, findings.problems

    def differences(self) -> list[str]:
        """Return notes on resampled videos, and on intrinsics that are assumed."""
        found = table.read(self.root)
        rows, rates = found.rows, self._rates(found)
        notes = []
        if not _alike(*rates):
            rate, highest = self._frame_rate(found), max(rates)
            notes.append(f"videos of {rate:.4g} to {highest:.4g} frames/s: all are resampled to {rate:.4g}")
        without = sum(not row.camera for row in rows)
        if without:
            notes.append(
                f"{plural(without, 'clip')} of {len(rows)} without {', '.join(table.CAMERA)} in {table.NAME}: a "
                f"horizontal field of view of {FOV_DEG:g} degrees is assumed, and every depth depends on it"
            )
        return notes

    def _jpegs(self, key: ClipKey, wanted: Size, quality: int, findings: Findings) -> tuple[Size, dict[int, bytes]]:
        """Return the size of a clip's images, and its frames as JPEGs by number."""
        size: Size | None = None
        jpegs: dict[int, bytes] = {}
        for number, image in self._images(key, findings):
            own = (image.shape[1], image.shape[0])
            size = size or own
            if own != size:
                detail = f"{own[0]}x{own[1]} px, {size[0]}x{size[1]} px"
                other = UnreadableError(self._paths(key.entry.row)[number], "has another size than the first", detail)
                findings.frame(number, other, FRAME_LEFT_OUT)
                continue
            jpegs[number] = _images.encode(fitting(size, wanted).image(image), quality)
        return size or wanted, jpegs

    def _images(self, key: ClipKey, findings: Findings) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the number and the image of each readable frame of a clip."""
        row = key.entry.row
        paths = self._paths(row)
        if paths:
            for number, path in enumerate(paths):
                try:
                    yield number, _images.read(path, *(_images.size_of(path) or (1, 1)))[0]
                except UnreadableError as error:
                    findings.frame(number, error, FRAME_LEFT_OUT)
            return
        number, found = 0, self._video(row)
        try:
            if found is None:
                raise UnreadableError(self.root / row.id, "has neither images nor a video")
            opened = _opened(found)
            for index, (_, image) in enumerate(opened.frames()):
                if index >= key.entry.images:
                    return
                while number < key.frames and key.entry.used[number] == index:
                    yield number, image
                    number += 1
            if opened.problem or number < key.frames:
                raise UnreadableError(found, "is damaged or cut off", f"{number} of {key.frames} frames")
        except UnreadableError as error:
            findings.add(error, FRAME_LEFT_OUT if number else CLIP_LEFT_OUT, key.frames - number)

    def _paths(self, row: Row) -> list[Path]:
        """Return the images of a clip, in the order of the numbers in their names."""
        folder = self.root / row.id
        if not folder.is_dir():
            return []
        images = (path for path in folder.iterdir() if path.suffix.lower() in video.SUFFIXES and path.name[0] != ".")
        return sorted(images, key=video.natural)

    def _video(self, row: Row) -> Path | None:
        """Return the video of a clip, or None if there is none."""
        path = self.root / row.id
        beside = [path.with_name(path.name + suffix) for suffix in video.VIDEOS]
        inside = sorted(path.iterdir()) if path.is_dir() else []
        videos = [each for each in (*beside, *inside) if each.suffix.lower() in video.VIDEOS and each.is_file()]
        return videos[0] if videos else None

    def _joints(self, row: Row) -> Path:
        path = self.root / row.id
        return path.with_name(f"{path.name}.parquet")

    def _hands(self, found: table.Table) -> int:
        """Return the number of hands of the data: 2 if any file of joints has a left hand."""
        return 1 + any(HANDS[0] in joints.columns(self._joints(row)) for row in found.rows)

    def _used(self, row: Row, rate: float) -> tuple[int, Sequence[int]]:
        """Return the number of a clip's images, or else of the rows of its joints, and the index of each used one."""
        images = len(self._paths(row))
        path = None if images else self._video(row)
        if path is not None:
            with contextlib.suppress(UnreadableError):  # reported when the clip is read
                own, times = _facts(path)
                used = range(len(times)) if _alike(own, rate) else video.nearest(times, rate).tolist()
                if len(times):
                    return len(times), used
        images = images or joints.count(self._joints(row))
        return images, range(images)

    def _frame_rate(self, found: table.Table) -> float:
        """Return the lowest frame rate of the videos, or the usual one if there is none; of like ones the first."""
        rates = self._rates(found)
        if not rates:
            return USUAL_FRAME_RATE
        return rates[0] if _alike(*rates) else min(rates)

    def _rates(self, found: table.Table) -> list[float]:
        """Return the frame rate of each video that can be read and is used."""
        rates = []
        for row in found.rows:
            if not self._paths(row) and (path := self._video(row)) is not None:
                with contextlib.suppress(UnreadableError):
                    rates.append(_facts(path)[0])
        return rates


def _opened(path: Path) -> VideoFile:
    """Return a video.

    Raises:
        UnreadableError: it is none, or none of its frames can be decoded.
    """
    try:
        return VideoFile(path)
    except DataError as error:
        raise UnreadableError(path, "is not a readable video", str(error)) from error


def _facts(path: Path) -> tuple[float, np.ndarray]:
    """Return the frame rate of a video and the time [t] of each of its frames, s.

    Raises:
        UnreadableError: it is none, or none of its frames can be decoded.
    """
    return _facts_of(path, *files.state(path.stat()))


@functools.lru_cache(maxsize=2**16)  # several methods need the facts of all videos
def _facts_of(path: Path, *_: int) -> tuple[float, np.ndarray]:
    opened = _opened(path)
    return opened.frame_rate or USUAL_FRAME_RATE, opened.times()


def _alike(*rates: float) -> bool:
    """Return whether frame rates are equal, up to ``RATE_TOLERANCE``."""
    return not rates or max(rates) <= min(rates) * (1 + RATE_TOLERANCE)


def _matrix(row: Row, seen: Size) -> np.ndarray:
    """Return the intrinsics [3 3] of a clip's images, px, or the assumed ones."""
    width, height = seen
    focal = width / 2 / math.tan(math.radians(FOV_DEG) / 2)
    return camera.intrinsics(*(row.camera or (focal, focal, width / 2, height / 2)))


def _around(row: Row, wanted: Size) -> Size:
    """Return the size of an image that is not there: that around the principal point, or the size of the frames."""
    return (round(2 * row.camera[2]), round(2 * row.camera[3])) if row.camera else wanted


def source(root: Path | None, config: DataConfig) -> FramesSource:  # noqa: ARG001 - own data have no options
    """Open own data in the folder ``root``.

    Raises:
        DataError: there is no such folder, or its table is missing or invalid.
    """
    opened = FramesSource(_frames.data_folder(root, "the data set"))
    if not (opened.root / table.NAME).is_file():
        raise DataError(
            f"No {table.NAME} in {_text.printable(opened.root)}: expected a table of the clips with the columns "
            f"{', '.join(table.REQUIRED)}. See docs/own_data.md."
        )
    return opened
