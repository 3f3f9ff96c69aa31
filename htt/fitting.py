"""Fitting of frames of any size to the image size of a model, and of their pixels and intrinsics.

A frame has another aspect ratio than the model's images, or the same: it is enlarged or reduced by one factor for both
axes, and then either its edges are cut off (``crop``) or it gets black bars (``letterbox``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from htt.errors import ConfigError, DataError, shown

Fit = Literal["crop", "letterbox"]
"""Treatment of frames with another aspect ratio: cut the edges off, or add black bars."""


@dataclass(frozen=True)
class Fitting:
    """Map from the pixels of a frame to those of the model's image: ``image_px = scale * frame_px + shift_px``."""

    size: tuple[int, int]
    """Width and height of the image, px."""
    frame: tuple[int, int]
    """Width and height of the frame, px."""
    scale: np.ndarray
    """[2] image px per frame px, along x and y."""
    shift_px: np.ndarray
    """[2] position of the frame's corner in the image, px."""

    @property
    def identical(self) -> bool:
        """True if frame and image have the same size, so that no pixel is changed."""
        return self.size == self.frame

    def image(self, frame: np.ndarray) -> np.ndarray:
        """Return the image uint8 [h w 3] of a frame, resized like the images of a data set: bilinear, antialiased."""
        if self.identical:
            return frame
        source = Image.fromarray(frame)
        left, top = np.maximum(-self.shift_px / self.scale, 0)
        cropped = (left, top, self.frame[0] - left, self.frame[1] - top)
        width, height = (min(size, round(scale * side)) for size, scale, side in
                         zip(self.size, self.scale.tolist(), self.frame, strict=True))  # fmt: skip
        resized = np.asarray(source.resize((width, height), Image.Resampling.BILINEAR, box=cropped))
        if (width, height) == self.size:
            return resized
        image = np.zeros((self.size[1], self.size[0], 3), np.uint8)
        x, y = self.shift_px.round().astype(int)
        image[y : y + height, x : x + width] = resized
        return image

    def intrinsics(self, matrix: np.ndarray) -> np.ndarray:
        """Return the intrinsics [3 3] of the image's pixels, from those of the frame's."""
        fitted = matrix.copy()
        fitted[:2] *= self.scale[:, None]
        fitted[:2, 2] += self.shift_px
        return fitted

    def frame_px(self, image_px: np.ndarray) -> np.ndarray:
        """Return pixels [... 2] of the frame, from those of the image."""
        if self.identical:
            return image_px
        back: np.ndarray = ((image_px - self.shift_px) / self.scale).astype(image_px.dtype)
        return back


def fitting(frame: tuple[int, int], size: tuple[int, int], fit: Fit = "crop") -> Fitting:
    """Return the map from frames to images.

    Args:
        frame: width and height of the frames, px.
        size: width and height of the images, px.
        fit: treatment of another aspect ratio.

    Raises:
        ConfigError: there is no such treatment.
    """
    if fit not in get_args(Fit):
        raise ConfigError(f"fit must be {' or '.join(get_args(Fit))}; got {shown(fit)}.")
    ratios = np.array(size) / np.array(frame)
    if fit == "crop":
        scale = np.full(2, ratios.max())
        return Fitting(size, frame, scale, (np.array(size) - scale * frame) / 2)
    inner = np.maximum(np.round(ratios.min() * np.array(frame)), 1)  # whole pixels, so that bars have sharp edges
    return Fitting(size, frame, inner / frame, np.floor((np.array(size) - inner) / 2))


def as_rgb(frames: Any) -> np.ndarray:
    """Return frames as uint8 [n h w 3].

    Args:
        frames: array or tensor [n h w 3] or [n 3 h w], or a sequence of arrays.

    Raises:
        DataError: they are not frames of one size with three channels, uint8 or floats in [0, 1].
    """
    if hasattr(frames, "detach"):
        given: Any = frames.detach().cpu().numpy()
    else:
        sizes = {np.shape(frame) for frame in frames}
        given = np.asarray(frames) if len(sizes) == 1 else np.zeros(0)
    if given.ndim == 4 and given.shape[3] != 3 and given.shape[1] == 3:
        given = given.transpose(0, 2, 3, 1)
    kind = given.dtype
    if given.ndim != 4 or given.shape[3] != 3 or not given.size or not (kind == np.uint8 or kind.kind == "f"):
        raise DataError(
            "frames must be RGB frames of one size, [n h w 3] or [n 3 h w], uint8 or floats in [0, 1]; got "
            f"{f'{list(given.shape)} {kind}' if given.size else 'no frames, or frames of several sizes'}."
        )
    if kind == np.uint8:
        return np.ascontiguousarray(given)
    if not ((given >= 0) & (given <= 1)).all():
        raise DataError(
            f"Frames of floats must be in [0, 1]; got {given.min():g} to {given.max():g}. Divide them by 255, or give "
            "uint8."
        )
    rounded: np.ndarray = np.round(255 * given).astype(np.uint8)
    return rounded


def checked_intrinsics(intrinsics: object) -> np.ndarray:
    """Return the intrinsics as float64 [3 3].

    Raises:
        ConfigError: they are no camera matrix.
    """
    given = intrinsics.detach().cpu().numpy() if hasattr(intrinsics, "detach") else intrinsics
    try:
        matrix = np.array(given, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    right = matrix.shape == (3, 3) and np.isfinite(matrix).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0
    if not right or matrix[0, 1] or matrix[1, 0] or matrix[2].tolist() != [0, 0, 1]:
        raise ConfigError(
            "intrinsics must be a camera matrix [[f_x, 0, c_x], [0, f_y, c_y], [0, 0, 1]] in pixels of the frames, "
            f"with positive focal lengths; got {shown(np.array(given, object).tolist())}. See htt.camera.intrinsics."
        )
    return matrix
