"""Reading, resizing and compressing of images for shards."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg

from htt.data.sources import UnreadableError, _text

if TYPE_CHECKING:  # else imported late, as in the functions
    from PIL.Image import Image, Transpose

JPEG_QUALITY = 92
"""Default quality of the frames' JPEGs."""
JPEG = "JPEG with 4:2:0 colour"
"""Description of the output of ``encode``."""
RESIZED = "Pillow, JPEGs decoded at a half, quarter or eighth of at least twice the size, bilinear with antialiasing"
"""Description of how ``read`` resizes images."""
_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1")
"""Accepted image modes of Pillow: 16-bit images are depth maps, or would become white."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation in which an image is shown."""
_DECIDES = 2
"""Smallest ratio of the decoded to the wanted size, so that the resize determines the result and not the decoder."""


def read(path: Path, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
    """Read an image file as RGB [h w 3], resized with antialiasing.

    It is turned as its EXIF orientation says. Decoding is strict: an image that a decoder would have to repair is
    rejected. JPEGs have no checksum, so a few damaged bytes that still decode cannot be detected.

    Returns:
        The image, and the (width, height) of the turned image in the file, px.

    Raises:
        UnreadableError: the file is missing, is not an image with 8 bits per channel, is truncated or damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        content = path.read_bytes()
    except OSError as error:
        raise _text.refused(path, error) from None
    try:
        with Image.open(io.BytesIO(content)) as unread:
            unread.verify()  # the checksums of a PNG, which decoding skips near its end
        with Image.open(io.BytesIO(content)) as image:
            size, mode = image.size, image.mode
            if mode not in _MODES:
                raise UnreadableError(path, "is not an image with 8 bits per channel", f"its mode is {mode}")
            turn = _turn(image)
            if image.format == "JPEG":
                wanted = _turned((width, height), turn)
                seen = Image.fromarray(_decode_jpeg(content, size, wanted))
            else:
                seen = image if mode == "RGB" else image.convert("RGB")
            seen = seen if turn is None else seen.transpose(turn)
            if seen.size != (width, height):
                seen = seen.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(seen), _turned(size, turn)
    except UnidentifiedImageError:
        raise UnreadableError(path, "is not a complete image", "no known format") from None
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:  # a decoder may raise any exception on broken bytes
        raise UnreadableError(path, "is not a complete image", _text.printable(error)) from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of the turned image in a file, or None if it is none. Reads only the first bytes."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _turned(image.size, _turn(image))
    except Exception:  # a decoder may raise any exception on broken bytes
        return None


def _turn(image: Image) -> Transpose | None:
    """Return the transposition that shows an image as its EXIF orientation says, or None if it is shown as decoded."""
    from PIL.Image import Transpose

    if image.format == "TIFF":  # Pillow turns it
        return None
    turns = (
        Transpose.FLIP_LEFT_RIGHT,
        Transpose.ROTATE_180,
        Transpose.FLIP_TOP_BOTTOM,
        Transpose.TRANSPOSE,
        Transpose.ROTATE_270,
        Transpose.TRANSVERSE,
        Transpose.ROTATE_90,
    )
    try:
        return dict(enumerate(turns, start=2)).get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the image is complete, only what is written about it is broken
        return None


def _turned(size: tuple[int, int], turn: Transpose | None) -> tuple[int, int]:
    """Return (width, height) after a transposition, which is its own inverse for sizes."""
    from PIL.Image import Transpose

    upright = (None, Transpose.FLIP_LEFT_RIGHT, Transpose.ROTATE_180, Transpose.FLIP_TOP_BOTTOM)
    return size if turn in upright else (size[1], size[0])


def _decode_jpeg(content: bytes, size: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray:
    """Decode a JPEG at the smallest of 1/8, 1/4, 1/2 and full size that is at least ``_DECIDES`` times ``wanted``.

    Raises:
        ValueError: the JPEG is broken; warnings of the decoder are errors.
    """
    most = min(size[0] // (_DECIDES * wanted[0]), size[1] // (_DECIDES * wanted[1]))
    scale = next(scale for scale in (8, 4, 2, 1) if scale <= max(most, 1))
    least = {"min_width": -(-size[0] // scale), "min_height": -(-size[1] // scale)}
    decoded: np.ndarray = simplejpeg.decode_jpeg(content, "RGB", **least, strict=True)
    return decoded


def encode(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """Compress an RGB image [h w 3] as JPEG."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return jpeg
