"""Optimiser, and learning rate as a pure function of the step.

The rate is computed at every step from the configuration alone, so there is no scheduler state to lose: a resumed run
has the same rates as an uninterrupted one.

Source of the defaults: HTT (Wen et al. 2023), section 4: Adam, 3e-5, halved every 15 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from htt.config import OptimConfig


def optimizer(config: OptimConfig, parameters: Iterable[Parameter]) -> torch.optim.Optimizer:
    """Return Adam, AdamW or SGD over the parameters that take a gradient."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    rate, decay = config.lr, config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(trained, lr=rate, momentum=config.momentum, weight_decay=decay, fused=True)
    if config.name == "adamw":
        return torch.optim.AdamW(trained, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.Adam(trained, lr=rate, weight_decay=decay, fused=True)


def learning_rate(config: OptimConfig, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Return the learning rate of a step, counted from 0 over the whole training.

    Warm-up rises linearly and reaches the full rate after ``warmup_epochs``. The step schedule counts its epochs from
    the start of training; the cosine falls from the end of warm-up to 0 at the end of the last epoch.
    """
    warmup = config.warmup_epochs * steps_per_epoch
    if step < warmup:
        return config.lr * (step + 1) / (math.floor(warmup) + 1)
    return config.lr * _factor(config, step, warmup, steps_per_epoch, epochs)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _factor(config: OptimConfig, step: int, warmup: float, steps_per_epoch: int, epochs: int) -> float:
    if config.schedule == "step":
        return float(config.step_factor ** (step // steps_per_epoch // config.step_epochs))
    if config.schedule == "cosine":
        span = max(epochs * steps_per_epoch - warmup, 1.0)
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / span, 1.0)))
    return 1.0
