"""Images on their way into shards: read, resized, compressed."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg

from htt.data.sources import UnreadableError, _text

JPEG_QUALITY = 92
"""Default quality of the frames' JPEGs."""
JPEG = "JPEG with 4:2:0 colour"
"""What ``encode`` makes, in words."""
RESIZED = "Pillow, JPEGs decoded at a half, quarter or eighth of at least twice the size, bilinear with antialiasing"
"""How ``read`` makes an image of another size, in words."""
_MODES = ("RGB", "RGBA", "L", "LA", "P", "PA", "1")
"""Kinds of images that are taken, by Pillow's names: 16-bit ones are depth, or would become white."""
_DECIDES = 2
"""How much larger than wanted an image must be when the resize begins, so that it decides what is seen."""


def read(path: Path, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The image in a file, RGB [h w 3], resized with every pixel's share of the original (no aliasing).

    Decoding is strict: an image that a decoder has to mend is none. A JPEG has no checksum, so a few bytes that are
    spoilt and still decode cannot be found.

    Returns:
        The image, and the (width, height) it has in the file, px.

    Raises:
        UnreadableError: it is missing, no image of 8 bits a channel, cut short or spoilt.
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
                raise UnreadableError(path, "is no image of 8 bits a channel", f"its mode is {mode}")
            if image.format == "JPEG":
                seen = Image.fromarray(_decode_jpeg(content, size, (width, height)))
            else:
                seen = image if mode == "RGB" else image.convert("RGB")
            if seen.size != (width, height):
                seen = seen.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(seen), size
    except UnidentifiedImageError:
        raise UnreadableError(path, "is no whole image", "no known format") from None
    except (MemoryError, UnreadableError):
        raise
    except Exception as error:  # a decoder given broken bytes may raise anything
        raise UnreadableError(path, "is no whole image", _text.printable(error)) from error


def size_of(path: Path) -> tuple[int, int] | None:
    """Return (width, height) of the image in a file, or None if it is none. Reads only its first bytes."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except Exception:  # a decoder given broken bytes may raise anything
        return None


def _decode_jpeg(content: bytes, size: tuple[int, int], wanted: tuple[int, int]) -> np.ndarray:
    """Decode a JPEG at the least of an eighth, a quarter, a half and all of its size that is ``_DECIDES`` x ``wanted``.

    Raises:
        ValueError: it is broken, however little: the decoder's warnings are errors.
    """
    most = min(size[0] // (_DECIDES * wanted[0]), size[1] // (_DECIDES * wanted[1]))
    scale = next(scale for scale in (8, 4, 2, 1) if scale <= max(most, 1))
    least = {"min_width": -(-size[0] // scale), "min_height": -(-size[1] // scale)}
    decoded: np.ndarray = simplejpeg.decode_jpeg(content, "RGB", **least, strict=True)
    return decoded


def encode(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """An RGB image [h w 3] as JPEG."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return jpeg
