"""Images on their way into shards: read, resized, compressed."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import simplejpeg

from htt.data.source import UnreadableError

JPEG_QUALITY = 92
"""Default quality of the frames' JPEGs."""
JPEG = "JPEG with 4:2:0 colour"
"""What ``encode`` makes, in words."""

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
"""What Pillow raises for a file that is no image or not a whole one."""


def read(path: Path, width: int, height: int) -> np.ndarray:
    """The image in a file, RGB [h w 3], resized with every pixel's share of the original (no aliasing).

    Raises:
        UnreadableError: it is missing, no image, or cut short.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            seen = image.convert("RGB")
            if seen.size != (width, height):
                seen = seen.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(seen)
    except FileNotFoundError:
        raise UnreadableError(f"{path} is missing") from None
    except _BROKEN as error:
        raise UnreadableError(f"{path} is no whole image: {error}") from error


def encode(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """An RGB image [h w 3] as JPEG."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return jpeg
