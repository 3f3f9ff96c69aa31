"""Optimiser, and learning rate as a pure function of the step.

The rate is computed at every step from the configuration alone, so there is no scheduler state to lose: a resumed run
has the same rates as an uninterrupted one.

Source of the defaults: HTT (Wen et al. 2023), section 4: Adam, 3e-5, halved every 15 epochs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter

from htt.config import OptimConfig

TIMES = "times"
"""Key of a parameter group that holds the factor of its learning rate; 1 if it is missing."""


def optimizer(
    config: OptimConfig, parameters: Iterable[Parameter], encoder: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Return Adam, AdamW or SGD over the parameters that take a gradient.

    Args:
        config: settings of the optimiser.
        parameters: all parameters of the model.
        encoder: image encoder; its parameters are groups of their own if they have other learning rates.
    """
    factors = _factors(config, encoder) if encoder else {}
    found: dict[tuple[bool, float, bool], dict[str, Any]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            apart, factor = id(parameter) in factors, factors.get(id(parameter), 1.0)
            exempt = config.decayed == "matrices" and sum(size > 1 for size in parameter.shape) < 2
            settings = {**({TIMES: factor} if apart else {}), **({"weight_decay": 0.0} if exempt else {})}
            found.setdefault((apart, factor, exempt), {"params": [], **settings})["params"].append(parameter)
    groups = [group for _, group in sorted(found.items(), key=lambda item: item[0][0])]  # the encoder last
    rate, decay = config.lr, config.weight_decay
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, weight_decay=decay, fused=True)
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay, fused=True)
    return torch.optim.Adam(groups, lr=rate, weight_decay=decay, fused=True)


def _factors(config: OptimConfig, encoder: nn.Module) -> dict[int, float]:
    """Return {id of a parameter of the encoder: factor of its learning rate}; empty if all have that of the model.

    The layer of a parameter is the first number in its name. What comes before the layers, such as the embedding of
    patches, counts as a layer before them, and what comes after them belongs to the last.
    """
    if config.backbone_lr is None and config.backbone_lr_factor == config.layer_decay == 1:
        return {}
    whole = config.backbone_lr_factor if config.backbone_lr is None else config.backbone_lr / config.lr
    layers, reached = [], -1
    for name, _ in encoder.named_parameters():
        reached = next((int(part) for part in name.split(".") if part.isdigit()), reached)
        layers.append(reached)
    depth = max(layers, default=0)
    return {
        id(parameter): whole * config.layer_decay ** (depth - layer)
        for parameter, layer in zip(encoder.parameters(), layers, strict=True)
    }


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
    """Set the learning rate of every parameter group: ``rate``, times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(TIMES, 1.0)


def _factor(config: OptimConfig, step: int, warmup: float, steps_per_epoch: int, epochs: int) -> float:
    if config.schedule == "step":
        return float(config.step_factor ** (step // steps_per_epoch // config.step_epochs))
    if config.schedule == "cosine":
        span = max(epochs * steps_per_epoch - warmup, 1.0)
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / span, 1.0)))
    return 1.0
