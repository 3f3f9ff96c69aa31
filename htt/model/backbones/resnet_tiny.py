"""A small ResNet for small images and no GPU: 16-32-64-128 channels, one basic block a stage.

An image of 96 x 54 px leaves a last map of 3 x 2. Its global average would forget where a hand is; the map is kept as a
grid instead, side by side, which costs nothing. Departs from the paper, which has ResNet-18.

The paper starts from weights learned on ImageNet. The weights named ``rendered`` are of that kind for the rendered
world: they come with the package, and were learned on single frames of other clips (``htt/presets/encoder.py``).
"""

from __future__ import annotations

from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from htt.config import BackboneConfig
from htt.model.backbones._resnet import load_weights, resnet

CHANNELS = (16, 32, 64, 128)
GRID = (2, 3)
"""Rows and columns the last map is averaged to."""
RENDERED = "rendered"
RENDERED_FILE = Path(__file__).with_suffix(".safetensors")
"""The weights of that name: tensors by transformers' names, 1.2 MB."""


class ResNetTiny(nn.Module):
    """A frame -> 128 numbers for each cell of a 2 x 3 grid."""

    width = CHANNELS[-1] * GRID[0] * GRID[1]

    def __init__(self) -> None:
        super().__init__()
        self.network = resnet(CHANNELS[0], CHANNELS, (1, 1, 1, 1))
        self.grid = nn.AdaptiveAvgPool2d(GRID)

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 768"]:
        """The last map's cells."""
        cells: Tensor = self.grid(self.network(frames).last_hidden_state)
        return cells.flatten(1)


def build(config: BackboneConfig) -> nn.Module:
    """The network; ``config.weights`` may be "rendered", or a file or folder with its own or torchvision's names.

    Raises:
        CheckpointError: the weights cannot be had, or are of another shape.
    """
    backbone = ResNetTiny()
    load_weights(backbone.network, str(RENDERED_FILE) if config.weights == RENDERED else config.weights)
    return backbone
