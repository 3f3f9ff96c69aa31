"""Sinusoidal position encoding of the original transformer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

BASE = 10_000.0


def sinusoid(length: int, width: int, like: Tensor) -> Float[Tensor, "length width"]:
    """Return one vector per position: sines in even dimensions, cosines in odd ones, wavelengths 2 pi to 2 pi BASE.

    The result has the device and dtype of ``like``; it is computed in float32, for any length.

    Source: HTT (Wen et al. 2023), section 3.1; Vaswani et al. 2017, section 3.5.
    """
    position = torch.arange(length, device=like.device, dtype=torch.float32)[:, None]
    even = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angle = position * torch.exp(even * (-math.log(BASE) / width))
    both = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
    return both[:, :width].to(like.dtype)
