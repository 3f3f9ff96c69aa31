"""Images on their way into shards: read, resized, compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import simplejpeg

from htt.data import reading
from htt.data.source import UnreadableError

JPEG_QUALITY = 92
"""Default quality of the frames' JPEGs."""
JPEG = "JPEG with 4:2:0 colour"
"""What ``encode`` makes, in words."""
RESIZED = "Pillow, JPEGs decoded at a half, quarter or eighth of at least twice the size, bilinear with antialiasing"
"""How ``read`` makes an image of another size, in words."""
_DECIDES = 2
"""How much larger than wanted an image must be when the resize begins, so that it decides what is seen."""


def read(path: Path, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
    """The image in a file, RGB [h w 3], resized with every pixel's share of the original (no aliasing).

    Returns:
        The image, and the (width, height) it has in the file, px.

    Raises:
        UnreadableError: it is missing, no image, or cut short.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            size = image.size
            image.draft("RGB", (_DECIDES * width, _DECIDES * height))  # of JPEGs alone; others stay as they are
            seen = image if image.mode == "RGB" else image.convert("RGB")
            if seen.size != (width, height):
                seen = seen.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(seen), size
    except UnidentifiedImageError:
        raise UnreadableError(path, "is no whole image", "no known format") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise reading.refused(path, error) from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder given broken bytes may raise anything
        raise UnreadableError(path, "is no whole image", reading.printable(error)) from error


def encode(image: np.ndarray, quality: int = JPEG_QUALITY) -> bytes:
    """An RGB image [h w 3] as JPEG."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality, "RGB", "420")
    return jpeg
