"""Augmentation of training images, on their device: colour, position and blur.

Colour changes and the shift are drawn once per window, because its frames show one scene; the blur is drawn for every
frame. As in the released code, a frame is blurred, then coloured, then shifted by whole pixels. The scale does not
change. 2D targets move with the image; the intrinsics are not changed.

Differences from the released code: the order of the four colour changes is drawn per window (there: per frame); values
stay floats between the changes (there: rounded to 8 bits); the blur is a true Gaussian (there: Pillow's approximation
by box filters).
Source: Wen et al. 2023, section 4.1 and the released configuration.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from htt.batch import Batch, Layout, window_of_frame
from htt.config import AugmentConfig
from htt.training import colour

CACHED_VALUES = 2**18
"""Largest number of values processed at once on a CPU: 1 MB of float32, which fits its cache."""

_THOUSANDTH = math.sqrt(2 * math.log(1000))
"""Number of standard deviations at which a Gaussian has fallen to a thousandth of its peak."""
_COLOURS, _DRAWS = 4, 10
"""Number of colour changes; random draws per window: a factor for each of the four colour changes, their order, and the
shift along x and y."""


def augment(batch: Batch, config: AugmentConfig, generator: torch.Generator, layout: Layout | None = None) -> Batch:
    """Return the batch with augmented frames, as floats in 0..1, and ``joints_px`` moved along.

    Every change has its own draws, made even if the change is off: with the same generator, a different value of one
    field changes one thing only. With all fields 0, frames are exactly the plain pixels.

    With ``config.views``, a window shows the copy of its clip given by ``batch.view``: the same for all windows of the
    clip, and in every epoch. Plain images and stored features are returned as they are.

    Args:
        batch: batch with uint8 frames, on any device.
        config: largest extent of each change.
        generator: source of all randomness; preferably on the CPU, where it gives the same numbers for every device.
        layout: positions of the batch's frames, or None to derive them from ``batch.valid``.
    """
    if batch.frames.dim() == 2 or config.views == 0:
        return batch
    counts = layout.counts if layout else batch.valid.sum(dim=1).tolist()
    if config.views is None:
        draws = torch.rand(len(batch.valid), _DRAWS, generator=generator, device=generator.device).tolist()
        blurs = torch.rand(len(batch.frames), generator=generator, device=generator.device)
    else:
        draws, blurs = _fixed_draws(batch, counts)
    sigmas = (blurs * config.blur_px).to(batch.frames.device, non_blocking=True)
    shifts = [shift_px(draw, config, batch.frames.shape[-1]) for draw in draws]
    frames = torch.zeros_like(batch.frames, dtype=torch.float32, memory_format=torch.channels_last)
    for window, chosen in _pieces(batch.frames, counts):
        images = batch.frames[chosen].float().div_(255).transpose(0, 1).contiguous()
        if config.blur_px:
            images = blur(images, sigmas[chosen], config.blur_px)
        _colours_(images, draws[window], config)
        _paste(frames[chosen].transpose(0, 1), images, *shifts[window])
    moved = torch.tensor(shifts, dtype=batch.joints_px.dtype).to(batch.joints_px.device, non_blocking=True)
    window_index = layout.window if layout else window_of_frame(batch.valid)
    moved = moved.index_select(0, window_index)[:, None]
    ahead_px = None if batch.ahead_px is None else batch.ahead_px + moved[:, None]
    return replace(batch, frames=frames, joints_px=batch.joints_px + moved, ahead_px=ahead_px)


def _pieces(frames: Tensor, counts: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Yield (window, some of its frames): as many frames as fit a CPU's cache, or all frames on another device."""
    height, width = frames.shape[-2:]
    most = max(1, CACHED_VALUES // (3 * height * width)) if frames.device.type == "cpu" else len(frames)
    first = 0
    for window, count in enumerate(counts):
        for start in range(first, first + count, most):
            yield window, slice(start, min(start + most, first + count))
        first += count


def blur(images: Tensor, sigmas_px: Tensor, largest_px: float) -> Tensor:
    """Return [3 t h w] images after a Gaussian blur, each frame with its own standard deviation [t], px.

    ``largest_px`` is the upper bound of ``sigmas_px``. Neighbours that would weigh less than a thousandth of the pixel
    itself are left out.
    """
    reach = max(1, math.floor(_THOUSANDTH * largest_px))
    taps = torch.arange(reach + 1, device=images.device)
    weights = torch.exp(-0.5 * (taps / sigmas_px.clamp(min=1e-3)[:, None]) ** 2)
    weights = weights / (2 * weights.sum(dim=1, keepdim=True) - weights[:, :1])
    for axis in (-1, -2):
        images = _blur_along(images, weights, axis)
    return images


def _blur_along(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Filter along one axis with symmetric ``weights`` [t 1 + reach]: of the pixel itself, then of its neighbours."""
    size, reach = images.shape[axis], weights.shape[1] - 1
    edges = [images.narrow(axis, end, 1).expand(*_with(images.shape, axis, reach)) for end in (0, size - 1)]
    wide = torch.cat([edges[0], images, edges[1]], dim=axis)
    blurred = images * weights[:, 0, None, None]
    for tap in range(1, reach + 1):
        around = wide.narrow(axis, reach - tap, size) + wide.narrow(axis, reach + tap, size)
        blurred.addcmul_(around, weights[:, tap, None, None])
    return blurred


def _with(shape: torch.Size, axis: int, size: int) -> list[int]:
    sizes = list(shape)
    sizes[axis] = size
    return sizes


def _colours_(images: Tensor, draw: list[float], config: AugmentConfig) -> None:
    """Change the colours of a window's images in place, in a drawn order."""
    changes = (
        (colour.brightness_, config.brightness, 1.0),
        (colour.contrast_, config.contrast, 1.0),
        (colour.saturation_, config.saturation, 1.0),
        (colour.hue_, config.hue, 0.0),
    )
    order = sorted(range(_COLOURS), key=lambda index: draw[_COLOURS + index])
    for index in order:
        change, largest, neutral = changes[index]
        if largest:
            change(images, neutral + _signed(draw[index]) * largest)


def view_shift_px(seed: int, config: AugmentConfig, width: int) -> tuple[int, int]:
    """Return the shift of an augmented copy of a clip, as ``shift_px`` does, given its seed."""
    return shift_px(torch.rand(_DRAWS, generator=torch.Generator().manual_seed(seed)).tolist(), config, width)


def _fixed_draws(batch: Batch, counts: Sequence[int]) -> tuple[list[list[float]], Tensor]:
    """Return the draws of each window's copy of its clip, and of the blur of each frame."""
    draws, blurs, last = [], [], int(batch.frame.max())
    frames_of_windows = torch.split(batch.frame.cpu(), list(counts))
    for seed, frames in zip(batch.view.tolist(), frames_of_windows, strict=True):
        generator = torch.Generator().manual_seed(seed)
        draws.append(torch.rand(_DRAWS, generator=generator).tolist())
        blurs.append(torch.rand(last + 1, generator=generator)[frames])
    return draws, torch.cat(blurs)


def shift_px(draw: list[float], config: AugmentConfig, width: int) -> tuple[int, int]:
    """Return the shift of a window's images to the right and down, in whole px, truncated as in the released code."""
    right, down = (int(_signed(each) * config.centre * width) for each in draw[-2:])
    return right, down


def _paste(canvas: Tensor, images: Tensor, right: int, down: int) -> None:
    """Copy images onto a black canvas of the same size, moved by (right, down) pixels."""
    height, width = images.shape[-2:]
    if abs(right) >= width or abs(down) >= height:
        return
    to = (slice(max(down, 0), height + min(down, 0)), slice(max(right, 0), width + min(right, 0)))
    come_from = (slice(max(-down, 0), height + min(-down, 0)), slice(max(-right, 0), width + min(-right, 0)))
    canvas[..., to[0], to[1]] = images[..., come_from[0], come_from[1]]


def _signed(draw: float) -> float:
    """Map a draw from 0..1 to -1..1."""
    return 2 * draw - 1
