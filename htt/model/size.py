"""How large a model is, told without computing or loading any of it."""

from __future__ import annotations

import torch

from htt.config import ModelConfig
from htt.info import DataInfo
from htt.model.htt import HTT


def parameters(config: ModelConfig, info: DataInfo) -> int:
    """How many numbers the model learns; it is built on torch's meta device, where tensors have no memory.

    Raises:
        ConfigError: it cannot be built.
    """
    bare = config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": None})})
    with torch.device("meta"):
        model = HTT(bare, info)
    return sum(each.numel() for each in model.parameters() if each.requires_grad)
