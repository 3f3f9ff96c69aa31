"""A small ResNet for small images and training on CPUs: 16-32-64-128 channels, one basic block per stage.

For an image of 96 x 54 px the last feature map is 3 x 2. A global average would lose the position of the hands, so the
cells of the map are concatenated instead, at no extra cost. This departs from the paper, which uses ResNet-18.

The paper starts from weights trained on ImageNet. The weights named ``rendered`` are the counterpart for rendered
images: they ship with the package and were trained on single frames of other clips (``htt/presets/encoder.py``).
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from htt.config import BackboneConfig
from htt.model.backbones._resnet import load_weights, resnet

CHANNELS = (16, 32, 64, 128)
GRID = (2, 3)
"""Rows and columns to which the last feature map is averaged."""
RENDERED = "rendered"
RENDERED_FILE = Path(__file__).with_suffix(".safetensors")
"""File of the weights named ``rendered``: tensors under transformers' names, 1.2 MB."""


class ResNetTiny(nn.Module):
    """Encoder of a frame to 128 features for each cell of a 2 x 3 grid."""

    width = CHANNELS[-1] * GRID[0] * GRID[1]

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet(CHANNELS[0], CHANNELS, (1, 1, 1, 1))
        self.grid = nn.AdaptiveAvgPool2d(GRID)

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 768"]:
        """Return the cells of the last feature map, concatenated."""
        features = self.network(frames).last_hidden_state
        plain = features.is_cuda and torch.are_deterministic_algorithms_enabled()
        cells: Tensor = means(features, *GRID) if plain else self.grid(features)
        return cells.flatten(1)


def means(features: Float[Tensor, "n c h w"], rows: int, columns: int) -> Float[Tensor, "n c rows columns"]:
    """Return what ``nn.AdaptiveAvgPool2d`` returns; on a GPU, its own gradients differ between runs."""
    spans = [
        [(index * size // count, -((-(index + 1) * size) // count)) for index in range(count)]
        for size, count in zip(features.shape[2:], (rows, columns), strict=True)
    ]
    cells = [
        features[:, :, top:bottom, left:right].mean((2, 3)) for top, bottom in spans[0] for left, right in spans[1]
    ]
    return torch.stack(cells, dim=2).reshape(*features.shape[:2], rows, columns)


def build(config: BackboneConfig) -> nn.Module:
    """Return the network with its weights.

    ``config.weights`` is "rendered", or a file or folder whose tensors have transformers' or torchvision's names, or
    None for random weights.

    Raises:
        CheckpointError: If the weights cannot be loaded or have another shape.
    """
    backbone = ResNetTiny()
    load_weights(backbone.network, str(RENDERED_FILE) if config.weights == RENDERED else config.weights)
    return backbone
