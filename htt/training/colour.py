"""Brightness, contrast, saturation and hue changes of images, as torchvision's ``ColorJitter`` defines them.

Plain tensor arithmetic, in place, on channels-first images [3 t h w] in 0..1: on one core this takes a fraction of the
time of a library for arbitrary layouts (``benchmarks/loading.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Weight of each channel in the grey value. Source: ITU-R BT.601."""


def grey(images: Tensor) -> Tensor:
    """Return the [t h w] grey values."""
    red, green, blue = images
    shade: Tensor = red * RED
    return shade.add_(green, alpha=GREEN).add_(blue, alpha=BLUE)


def brightness_(images: Tensor, factor: float) -> Tensor:
    """Move values towards black (factor below 1) or away from it."""
    return images.mul_(factor).clamp_(0, 1)


def contrast_(images: Tensor, factor: float) -> Tensor:
    """Move values towards each frame's mean grey (factor below 1) or away from it."""
    mean = grey(images).mean(dim=(-2, -1), keepdim=True)
    return images.mul_(factor).add_(mean, alpha=1 - factor).clamp_(0, 1)


def saturation_(images: Tensor, factor: float) -> Tensor:
    """Move values towards each pixel's grey (factor below 1) or away from it."""
    shade = grey(images)
    return images.mul_(factor).add_(shade, alpha=1 - factor).clamp_(0, 1)


def hue_(images: Tensor, turn: float) -> Tensor:
    """Turn each pixel's hue by ``turn`` of the colour circle, at the same value and saturation (HSV)."""
    red, green, blue = images
    top = torch.maximum(torch.maximum(red, green), blue)
    chroma = top - torch.minimum(torch.minimum(red, green), blue)
    hue = _hue(red, green, blue, top, chroma)
    for channel, opposite in zip(images, (1 / 2, 5 / 6, 1 / 6), strict=True):
        # A channel lacks the whole chroma within a sixth of its opposite hue, and nothing from a third on.
        away = hue + (turn - opposite)
        away.sub_(away.round()).abs_()
        torch.addcmul(top, chroma, torch.rsub(away, 2, alpha=6).clamp_(0, 1), value=-1, out=channel)
    return images


def _hue(red: Tensor, green: Tensor, blue: Tensor, top: Tensor, chroma: Tensor) -> Tensor:
    """Return the [t h w] hue of each pixel in turns of the colour circle, modulo 1; red is 0."""
    is_red, is_green = torch.empty_like(red), torch.empty_like(red)
    torch.eq(red, top, out=is_red)
    torch.eq(green, top, out=is_green).addcmul_(is_green, is_red, value=-1)
    is_blue = 1 - is_red - is_green
    hue = (green - blue).mul_(is_red).addcmul_(blue - red, is_green).addcmul_(red - green, is_blue)
    hue.div_(chroma.clamp(min=1e-12).mul_(6))
    return hue.add_(is_green, alpha=1 / 3).add_(is_blue, alpha=2 / 3)
