"""Number of trainable parameters of a model, counted without allocating memory or loading weights."""

from __future__ import annotations

import torch

from htt.config import ModelConfig
from htt.info import DataInfo
from htt.model.htt import HTT


def parameters(config: ModelConfig, info: DataInfo) -> int:
    """Return the number of trainable parameters; the model is built on torch's meta device, which allocates no memory.

    Raises:
        ConfigError: If the model cannot be built.
    """
    with torch.device("meta"):
        model = HTT.without_weights(config, info)
    return sum(each.numel() for each in model.parameters() if each.requires_grad)
