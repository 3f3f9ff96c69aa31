"""Frames of a video file, a folder of images or a camera, with their times; and their resampling to another rate.

Video is decoded by PyAV. Frames are RGB uint8 [h w 3] as a player shows them: turned by the file's rotation flag, with
square pixels. One frame at a time is in memory, so a video may have any length.
"""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from htt.errors import DataError
from htt.text import plural

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Suffixes of the images of a folder."""
VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v")
"""Suffixes of the videos of a data set."""
TOLERANCE_S = 0.5
"""Seconds by which a video may end before the end that its file announces."""
UNKNOWN_RATE = 30.0
"""Frames per second of a video whose file names no rate."""
CAMERAS = {"Linux": ("v4l2", "/dev/video{}"), "Darwin": ("avfoundation", "{}")}
"""{system: (input format of FFmpeg, name of a camera)}"""

Timed = tuple[float, np.ndarray]
"""Time since the first frame, s, and the frame."""


class FrameSource(Protocol):
    """Source of frames that all have one size."""

    name: str
    size: tuple[int, int]
    """Width and height of the frames, px."""
    frame_rate: float | None
    """Average frames per second, or None for frames that have no times."""
    seconds: float | None
    """Duration that the file announces, or None if unknown."""
    problem: str
    """Sentence on what could not be read, known after the frames were; else ""."""

    def frames(self) -> Iterator[Timed]:
        """Yield the frames from the start, in order."""


def open_source(path: Path) -> FrameSource:
    """Open a video file or a folder of images.

    Raises:
        DataError: there is no such file, or it has no frames that can be decoded.
    """
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        camera = f" For a camera, give its number: --camera {path}." if str(path).isdecimal() else ""
        raise DataError(f"No such video: {path}. Give a video file or a folder of images.{camera}")
    return VideoFile(path)


class VideoFile:
    """Video file, or another input of FFmpeg."""

    def __init__(self, path: Path | str, kind: str | None = None) -> None:
        """Open the file and decode its first frame.

        Args:
            path: path of the file.
            kind: format of the input, or None to recognise it.

        Raises:
            DataError: it has no video that can be decoded.
        """
        self.name, self._path, self._kind, self.problem = str(path), str(path), kind, ""
        self._faults = 0
        with self._opened() as container:
            stream = self._stream(container)
            rate = stream.average_rate or stream.guessed_rate
            self.frame_rate: float | None = float(rate) if rate else UNKNOWN_RATE
            self.seconds = _duration(container, stream)
            self._others = len(container.streams) > 1  # the duration may be that of the sound
            first = next(self._decoded(container, stream), None)
            if first is None:
                raise DataError(f"Cannot decode any frame of {self.name}: it is damaged or cut off. Copy it again.")
            self._stored = (round(first.width * float(stream.sample_aspect_ratio or 1)) or first.width, first.height)
            shown = self._rgb(first)
        self.size = (shown.shape[1], shown.shape[0])

    def frames(self) -> Iterator[Timed]:
        """Yield the frames; a damaged or cut file gives those that can be decoded, and then sets ``problem``."""
        self.problem = ""
        count, start, last, step = 0, 0.0, 0.0, 1 / (self.frame_rate or UNKNOWN_RATE)
        with self._opened() as container:
            stream = self._stream(container)
            for frame in self._decoded(container, stream):
                time = count * step if frame.time is None else float(frame.time)
                start = start if count else time
                last = max(last, time - start)
                yield last, self._rgb(frame)
                count += 1
            announced = int(stream.frames)
        missing = announced - count if announced else 0
        early = self.seconds is not None and not self._others and self.seconds - (last + step) > TOLERANCE_S
        if self._faults or early or missing > 2:
            until = f"{last + step:.1f} of {self.seconds:.1f} s" if self.seconds is not None else f"{last + step:.1f} s"
            self.problem = (
                f"{self.name} is damaged or cut off: {plural(count, 'frame')} ({until}) could be decoded and are used."
            )

    def times(self) -> np.ndarray:
        """Return [t] the time of each frame since the first, s, without decoding; up to a fault of the file."""
        found: list[float] = []
        step = 1 / (self.frame_rate or UNKNOWN_RATE)
        with self._opened() as container, contextlib.suppress(av.error.FFmpegError, OSError):
            for packet in container.demux(self._stream(container)):
                if packet.size:  # the last one is empty
                    found.append(len(found) * step if packet.pts is None else float(packet.pts * packet.time_base))
        times: np.ndarray = np.sort(found)  # packets are in the order of decoding
        times -= times[:1]
        return times

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            container = av.open(self._path, format=self._kind)
        except (av.error.FFmpegError, OSError) as error:
            if self._kind:
                raise DataError(f"Cannot open the camera {self.name}: {error.strerror or error}.") from error
            raise DataError(
                f"Cannot read {self.name} as video: {error.strerror or error}. It is no video, or damaged or cut off; "
                "an mp4 file that was not closed cannot be read at all."
            ) from error
        with container:
            yield container

    def _stream(self, container: Any) -> Any:
        pictures = av.stream.Disposition.attached_pic
        streams = [each for each in container.streams.video if not each.disposition & pictures]
        if not streams:
            kinds = sorted({each.type for each in container.streams if each.type != "video"})
            has = f"only {' and '.join(kinds)}" if kinds else "no stream"
            raise DataError(f"{self.name} has no video: it has {has}. Give a file with a video stream.")
        streams[0].thread_type = "AUTO"
        return streams[0]

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """Yield the frames that can be decoded, and count the faults."""
        self._faults = 0
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (av.error.FFmpegError, OSError):
                self._faults += 1
                return
            try:
                yield from packet.decode()
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, OSError):
                self._faults += 1

    def _rgb(self, frame: Any) -> np.ndarray:
        """Return a frame as it is shown: square pixels, turned, in the size of the first frame."""
        turns = round(frame.rotation / 90) % 4  # to the left
        width, height = self._stored
        rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb


def _duration(container: Any, stream: Any) -> float | None:
    """Return the seconds of video that a file announces, or None."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


class ImageFolder:
    """Folder of images of one size, in the order of the numbers in their names; they have no times."""

    def __init__(self, folder: Path) -> None:
        """List the images.

        Raises:
            DataError: there are none, or the first is broken.
        """
        self.name, self.problem = str(folder), ""
        self.frame_rate: float | None = None
        self.seconds: float | None = None
        self.paths = sorted((path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES), key=natural)
        if not self.paths:
            raise DataError(f"No images in {folder}: expected files that end in {', '.join(SUFFIXES)}.")
        first = self._read(self.paths[0])
        self.size = (first.shape[1], first.shape[0])

    def frames(self) -> Iterator[Timed]:
        """Yield the images, one unit of time apart.

        Raises:
            DataError: an image is broken or has another size than the first; names it.
        """
        for place, path in enumerate(self.paths):
            image = self._read(path)
            if image.shape[1::-1] != self.size:
                sizes = [f"{width}x{height}" for width, height in (image.shape[1::-1], self.size)]
                raise DataError(
                    f"The images of a folder must have one size: {path} has {sizes[0]}, the first {sizes[1]}."
                )
            yield float(place), image

    @staticmethod
    def _read(path: Path) -> np.ndarray:
        try:
            with Image.open(path) as image:
                return np.array(ImageOps.exif_transpose(image).convert("RGB"))
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            raise DataError(f"Cannot read the image {path}: it is damaged or of no known format ({error}).") from error


def natural(path: Path) -> list[tuple[int, str]]:
    """Return a key that sorts names by their numbers: frame2 before frame10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def open_camera(number: int) -> VideoFile:
    """Open a camera by its number.

    Raises:
        DataError: it cannot be opened, or cameras have no numbers on this system.
    """
    system = platform.system()
    if system not in CAMERAS:
        raise DataError(f"Cannot open a camera by its number on {system}. Record a video and give it with --video.")
    kind, name = CAMERAS[system]
    return VideoFile(name.format(number), kind)


def resampled(frames: Iterator[Timed], rate: float) -> Iterator[np.ndarray]:
    """Yield the frames nearest to the times 0, 1 / rate, 2 / rate, ...: some may be repeated, others left out."""
    index, before, interval = 0, None, 1 / rate
    for time, frame in frames:
        if before is not None:
            interval = time - before[0]
            while index / rate <= (before[0] + time) / 2 + 1e-9:
                yield before[1]
                index += 1
        before = (time, frame)
    while before is not None and index / rate < before[0] + max(interval, 1e-6) / 2 - 1e-9:
        yield before[1]
        index += 1


def nearest(times: np.ndarray, rate: float) -> np.ndarray:
    """Return the index of the frame that ``resampled`` yields at each time, given the time of each frame [t]."""
    frames = ((time, np.array(index)) for index, time in enumerate(times.tolist()))
    return np.array(list(resampled(frames, rate)), int)


def at_rate(source: FrameSource, rate: float) -> Iterator[np.ndarray]:
    """Yield the frames of a source at a rate; images without times have that rate already."""
    if source.frame_rate is None:
        return (frame for _, frame in source.frames())
    return resampled(source.frames(), rate)


def thinned(frames: Iterator[Timed], rate: float) -> Iterator[np.ndarray]:
    """Yield at most ``rate`` of a camera's frames per second, each as soon as it is there."""
    due = 0.0
    for time, frame in frames:
        if time >= due - 0.25 / rate:
            yield frame
            due = max(due + 1 / rate, time + 0.5 / rate)  # no burst after a pause
