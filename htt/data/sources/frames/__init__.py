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

An empty action or object is unknown. Images of another aspect ratio than requested lose their edges. Without
intrinsics, a horizontal field of view of ``FOV_DEG`` is assumed. Without images, only poses can be converted; the image
is then taken to have its centre at (cx, cy). See docs/own_data.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from htt import camera
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
    _video,
)
from htt.data.sources._frames import Findings
from htt.data.sources.frames import joints, table
from htt.data.sources.frames.table import Row
from htt.errors import DataError
from htt.hand import HANDS, JOINTS_PER_HAND
from htt.info import DataInfo
from htt.text import plural

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of the images in the folder of a clip."""
FOV_DEG = 90.0
"""Horizontal field of view of a camera without intrinsics, degrees."""

Size = tuple[int, int]
"""Width and height, px."""


@dataclass(frozen=True)
class Entry:
    """Row of a clip, its labels and the number of hands of the data."""

    row: Row
    action: int
    object: int
    hands: int


@dataclass(frozen=True)
class Crop:
    """Part of an image that has the aspect ratio of the frames: the largest one around the centre."""

    seen: Size
    """Size of the image."""
    wanted: Size
    """Size of the frames."""

    @property
    def scale(self) -> float:
        """Frame px per image px."""
        return max(self.wanted[0] / self.seen[0], self.wanted[1] / self.seen[1])

    @property
    def corner(self) -> tuple[float, float]:
        """Left and upper edge of the part, px of the image."""
        return (self.seen[0] - self.wanted[0] / self.scale) / 2, (self.seen[1] - self.wanted[1] / self.scale) / 2

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Return the frame of an image, resized with antialiasing."""
        if self.seen == self.wanted:
            return image
        (left, top), (width, height) = self.corner, self.seen
        box = (left, top, width - left, height - top)
        return np.asarray(Image.fromarray(image).resize(self.wanted, Image.Resampling.BILINEAR, box))

    def intrinsics(self, given: tuple[float, ...]) -> np.ndarray:
        """Return the intrinsics [3 3] of the frames, from f_x, f_y, c_x, c_y of the images or the assumed ones."""
        width, height = self.seen
        focal = width / 2 / math.tan(math.radians(FOV_DEG) / 2)
        focal_x, focal_y, centre_x, centre_y = given or (focal, focal, width / 2, height / 2)
        matrix = camera.intrinsics(focal_x, focal_y, centre_x - self.corner[0], centre_y - self.corner[1])
        return np.asarray(camera.resized(matrix, self.scale, self.scale))


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
        """Return the classes of the table, and two hands if any file of joints has a left one."""
        found = table.read(self.root)
        return DataInfo(self.name, found.actions, found.objects, self._hands(found), width, height)

    def clips(self, split: str) -> list[ClipKey]:
        """Return the clips of a split, in the order of the table."""
        found = table.read(self.root)
        hands = self._hands(found)
        rows = [row for row in found.rows if row.split == split]
        return [ClipKey(row.id, self._count(row), Entry(row, *found.labels(row), hands)) for row in rows]

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        """Read a clip; a frame without joints is kept, and its hands are not valid."""
        entry: Entry = key.entry
        row, findings, wanted = entry.row, Findings(self.root), (width, height)
        shape = key.frames, entry.hands
        joints_m = np.zeros((key.frames, entry.hands * JOINTS_PER_HAND, 3), np.float32)
        valid = np.zeros(shape, bool)
        path = self._joints(row)
        if path.is_file() or not quality:
            try:
                joints_m, valid = joints.read(path, *shape, findings)
            except UnreadableError as error:
                findings.add(error, HANDS_NOT_KNOWN if quality else CLIP_LEFT_OUT, key.frames)
                if not quality:
                    return None, findings.problems
        if quality:
            seen, jpegs = self._jpegs(key, wanted, quality, findings)
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
            intrinsics=Crop(seen, wanted).intrinsics(row.camera),
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
        """Return a note on intrinsics that are assumed."""
        rows = table.read(self.root).rows
        without = sum(not row.camera for row in rows)
        if not without:
            return []
        return [
            f"{plural(without, 'clip')} of {len(rows)} without {', '.join(table.CAMERA)} in {table.NAME}: a horizontal "
            f"field of view of {FOV_DEG:g} degrees is assumed, and every depth depends on it"
        ]

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
            jpegs[number] = _images.encode(Crop(size, wanted).frame(image), quality)
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
        number, video = 0, self._video(row)
        try:
            if video is None:
                raise UnreadableError(self.root / row.id, "has neither images nor a video")
            for number, image in enumerate(_video.frames(video), start=1):
                if number > key.frames:
                    return
                yield number - 1, image
            if number < key.frames:
                raise UnreadableError(video, "ends early", f"{number} of {key.frames} frames")
        except UnreadableError as error:
            findings.add(error, FRAME_LEFT_OUT if number else CLIP_LEFT_OUT, key.frames - number)

    def _paths(self, row: Row) -> list[Path]:
        """Return the images of a clip, in the order of the numbers in their names."""
        folder = self.root / row.id
        if not folder.is_dir():
            return []
        images = (path for path in folder.iterdir() if path.suffix.lower() in IMAGES and path.name[0] != ".")
        return sorted(images, key=_natural)

    def _video(self, row: Row) -> Path | None:
        """Return the video of a clip, or None if there is none."""
        path = self.root / row.id
        beside = [path.with_name(path.name + suffix) for suffix in _video.SUFFIXES]
        inside = sorted(path.iterdir()) if path.is_dir() else []
        videos = [each for each in (*beside, *inside) if each.suffix.lower() in _video.SUFFIXES and each.is_file()]
        return videos[0] if videos else None

    def _joints(self, row: Row) -> Path:
        path = self.root / row.id
        return path.with_name(f"{path.name}.parquet")

    def _hands(self, found: table.Table) -> int:
        """Return the number of hands of the data: 2 if any file of joints has a left hand."""
        return 1 + any(HANDS[0] in joints.columns(self._joints(row)) for row in found.rows)

    def _count(self, row: Row) -> int:
        """Return the number of a clip's images, or else of the rows of its joints."""
        paths, video = self._paths(row), self._video(row)
        images = len(paths) if paths else _video.count(video) if video else 0
        return images or joints.count(self._joints(row))


def _around(row: Row, wanted: Size) -> Size:
    """Return the size of an image that is not there: that around the principal point, or the size of the frames."""
    return (round(2 * row.camera[2]), round(2 * row.camera[3])) if row.camera else wanted


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts names by their numbers: frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", path.name)]


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
