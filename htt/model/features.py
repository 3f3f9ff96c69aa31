"""Image features: frames are normalised, encoded and projected to one token per frame of the model's width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from htt.config import BackboneConfig
from htt.device import exact_fp32
from htt.model import backbones
from htt.registry import is_free, load, names

NORMALISE = {
    "centre": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation for pixels in [0, 1]. Source: released code (centre); torchvision (imagenet)."""


class FrameFeatures(nn.Module):
    """Image encoder with normalisation and projection; it can be frozen as a whole, or its batch norm alone.

    Raises:
        ConfigError: If the backbone does not exist.
        CheckpointError: If the weights cannot be loaded or belong to another network.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: BackboneConfig, width: int, settings: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.frozen, self.trained, self.size = config.batch_norm == "frozen", config.trained, config.size
        self.recompute = config.recompute
        self.backbone = channels_last(open_backbone(config, settings))
        if not self.trained:
            self.backbone.requires_grad_(False)
        self.to_width = to_width(self.backbone, width)
        own = None if config.normalise else getattr(self.backbone, "mean", None)
        normalisation = (own, self.backbone.deviation) if own else NORMALISE[config.normalise or "centre"]
        for name, values in zip(("mean", "deviation"), normalisation, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.train(self.training)

    @property
    def settings(self) -> dict[str, Any] | None:
        """Settings with which the encoder is built without asking the hub; None for one of this project."""
        return getattr(self.backbone, "settings", None)

    def train(self, mode: bool = True) -> FrameFeatures:
        """Set the training mode, except that frozen batch norm stays in eval mode.

        Source: the released code trains in eval mode.
        """
        super().train(mode)
        if not self.trained:
            self.backbone.eval()
        for module in self.modules():
            if self.frozen and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, frames: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n d"]:
        """Return one token per frame, from uint8 images or floats in [0, 1], or from their stored features [n f]."""
        token: Tensor = self.to_width(frames.float() if frames.dim() == 2 else self.encode(frames))
        return token

    def encode(self, frames: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n f"]:
        """Return the feature of each image; those of a frozen encoder have the precision of stored ones, float16."""
        frames = frames.contiguous(memory_format=torch.channels_last)
        pixels = frames.float() / 255 if frames.dtype == torch.uint8 else frames
        if self.size is not None:
            pixels = F.interpolate(pixels, (self.size, self.size), mode="bilinear", antialias=True)
        normalised = (pixels - self.mean) / self.deviation
        if self.trained:
            if self.recompute and self.training:
                again: Tensor = checkpoint(self.backbone, normalised, use_reentrant=False)
                return again
            trained: Tensor = self.backbone(normalised)
            return trained
        with torch.no_grad(), torch.autocast(frames.device.type, enabled=False), exact_fp32():
            fixed: Tensor = self.backbone(normalised)
            return fixed.half().float()


def channels_last(network: nn.Module) -> nn.Module:
    """Convert the network's convolution kernels to channels-last memory format, in place; 10 % faster on a CPU.

    Kernels of one pixel are converted too: torch treats both formats of them as equal, but training with several
    workers depends on the strides of their gradients.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            laid_out = torch.empty(parameter.shape, dtype=parameter.dtype, memory_format=torch.channels_last)
            parameter.data = laid_out.copy_(parameter.data)
    return network


def to_width(backbone: nn.Module, width: int) -> nn.Module:
    """Return a linear layer from a backbone's feature width to the model's width, or the identity if they are equal.

    It is also the identity if there is no encoder: its features have no values.
    """
    own = int(backbone.width)  # type: ignore[arg-type]
    return nn.Identity() if own in (0, width) else nn.Linear(own, width)


def open_backbone(config: BackboneConfig, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """Build the backbone ``config.name``: a module of htt/model/backbones, or a hub model or folder of transformers.

    Args:
        config: Configuration of the backbone.
        settings: ``settings`` of the same backbone, or None to get those of a hub model from the hub.

    Raises:
        ConfigError: If there is no such backbone.
        CheckpointError: If the weights cannot be loaded or have another shape.
    """
    if config.name not in names(backbones) and is_free(config.name):
        from htt.model.backbones import _hub  # transformers' Auto classes are slow to import

        return _hub.build(config, settings)
    backbone: nn.Module = load(backbones, config.name).build(config)
    return backbone
