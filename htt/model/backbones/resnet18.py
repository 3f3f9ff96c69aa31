"""ResNet-18 with global average pooling, as in the paper; weights from torchvision's file, a folder or a hub name."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from htt.config import BackboneConfig
from htt.model.backbones._resnet import load_weights, resnet


class ResNet18(nn.Module):
    """Encoder of a frame to 512 features. Source: HTT (Wen et al. 2023), section 3.1; He et al. 2016."""

    width = 512

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet(64, (64, 128, 256, 512), (2, 2, 2, 2))

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 512"]:
        """Return the mean of the last feature map."""
        pooled: Tensor = self.network(frames).pooler_output
        return pooled.flatten(1)


def build(config: BackboneConfig) -> nn.Module:
    """Return the network with its weights.

    ``config.weights`` may be the path of torchvision's file, "microsoft/resnet-18" or "timm/resnet18.tv_in1k".

    Raises:
        CheckpointError: If the weights cannot be loaded or have another shape.
    """
    backbone = ResNet18()
    load_weights(backbone.network, config.weights)
    return backbone
