"""Frames of a video file, decoded by PyAV: RGB as a player shows them, turned by the rotation flag, square pixels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import numpy as np

from htt.data.sources import UnreadableError, _text

SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v")
"""Suffixes of video files."""
DAMAGED = "is damaged or cut off"
SPARE = 2
"""Number of frames that a whole file may announce and not show: those before the start that its edit list sets."""


def count(path: Path) -> int:
    """Return the number of frames in a video file, without decoding them; 0 if it cannot be read."""
    found = 0
    try:
        with closing(_opened(path)) as container:
            for packet in container.demux(_stream(path, container)):
                found += packet.size > 0  # the last one is empty
    except (av.error.FFmpegError, OSError, UnreadableError):
        pass  # ``frames`` says why
    return found


def frames(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames [h w 3] uint8 of a video in the order in which they are shown, all of the size of the first.

    Raises:
        UnreadableError: it has no video stream, or it is damaged or cut off; all frames before the fault are yielded.
    """
    size, turns, number = None, 0, 0
    try:
        with closing(_opened(path)) as container:
            stream = _stream(path, container)
            for frame in container.decode(stream):
                if size is None:
                    width = round(frame.width * float(stream.sample_aspect_ratio or 1))
                    size, turns = (width, frame.height), round(frame.rotation / 90) % 4
                rgb = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
                yield np.ascontiguousarray(np.rot90(rgb, turns))
                number += 1
            if stream.frames - number > SPARE:
                raise UnreadableError(path, DAMAGED, f"{number} of {stream.frames} frames")
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableError(path, DAMAGED, str(error.strerror or error)) from error


def _opened(path: Path) -> Any:
    try:
        return av.open(str(path))
    except FileNotFoundError as error:
        raise UnreadableError(path, _text.MISSING) from error
    except (av.error.FFmpegError, OSError) as error:
        raise UnreadableError(path, "is not a complete video", str(error.strerror or error)) from error


def _stream(path: Path, container: Any) -> Any:
    """Return the first video stream; a picture attached to a sound file is none."""
    pictures = av.stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & pictures]
    if not streams:
        kinds = " and ".join(sorted({each.type for each in container.streams if each.type != "video"}))
        raise UnreadableError(path, "has no video stream", f"only {kinds or 'no stream'}")
    streams[0].thread_type = "AUTO"
    return streams[0]
