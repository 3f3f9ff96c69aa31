"""From pixels to one token a frame: normalise, encode, bring to the model's width."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from htt.config import BackboneConfig
from htt.model import backbones
from htt.registry import is_free, load, names

NORMALISE = {
    "centre": ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and deviation taken from pixels in [0, 1]. Source: released code (centre); torchvision (imagenet)."""


class FrameFeatures(nn.Module):
    """The image encoder with all that surrounds it; batch norm stays frozen while training, if so configured.

    Raises:
        ConfigError: a backbone that does not exist.
        CheckpointError: weights that cannot be had, or belong to another network.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: BackboneConfig, width: int) -> None:
        super().__init__()
        self.frozen = config.batch_norm == "frozen"
        self.backbone = channels_last(open_backbone(config))
        self.to_width = to_width(self.backbone, width)
        for name, values in zip(("mean", "deviation"), NORMALISE[config.normalise], strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> FrameFeatures:
        """As every module; frozen batch norm stays in eval mode.

        Source: the released code trains in eval mode.
        """
        super().train(mode)
        for module in self.modules():
            if self.frozen and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, frames: Shaped[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """One token a frame, from uint8 images or floats in [0, 1]."""
        frames = frames.contiguous(memory_format=torch.channels_last)
        pixels = frames.float() / 255 if frames.dtype == torch.uint8 else frames
        token: Tensor = self.to_width(self.backbone((pixels - self.mean) / self.deviation))
        return token


def channels_last(network: nn.Module) -> nn.Module:
    """The same network, its images' kernels laid out in memory as its images are: a tenth faster on a CPU.

    Kernels of one pixel too, for which torch sees no difference, but several workers' gradients do.
    """
    for parameter in network.parameters():
        if parameter.dim() == 4:
            laid_out = torch.empty(parameter.shape, dtype=parameter.dtype, memory_format=torch.channels_last)
            parameter.data = laid_out.copy_(parameter.data)
    return network


def to_width(backbone: nn.Module, width: int) -> nn.Module:
    """A linear layer from a backbone's feature to the model's width; nothing where they are the same."""
    own = int(backbone.width)  # type: ignore[arg-type]
    return nn.Identity() if own == width else nn.Linear(own, width)


def open_backbone(config: BackboneConfig) -> nn.Module:
    """The module ``config.name`` of htt/model/backbones; for a name with a "/" or of a folder, that vision model.

    Raises:
        ConfigError: there is no such backbone.
        CheckpointError: its weights cannot be had, or are of another shape.
    """
    if config.name not in names(backbones) and is_free(config.name):
        from htt.model.backbones import _hub  # here, since transformers' automatic classes are slow to import

        return _hub.build(config)
    backbone: nn.Module = load(backbones, config.name).build(config)
    return backbone
