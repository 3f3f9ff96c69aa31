"""What the ResNets share: transformers' network, and weights in torchvision's names or transformers' own."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from htt.model.backbones._hub import hub_file
from htt.model.weights import from_torchvision, load_strictly, read_state

FILES = (".pth", ".pt", ".bin", ".tar", ".safetensors")
"""How the name of a file of weights ends; any other name that is not here is one of the hub's."""
ENCODER = "features.backbone.network."
"""How the names of an encoder's weights begin in a checkpoint of a whole model."""


def resnet(embedding: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> ResNetModel:
    """A ResNet of basic blocks with random weights (He et al. 2016); its strides are torchvision's."""
    config = ResNetConfig(embedding_size=embedding, hidden_sizes=list(widths), depths=list(depths), layer_type="basic")
    return ResNetModel(config)


def load_weights(network: nn.Module, weights: str | None) -> None:
    """Put the weights of a file, of a folder or of a hub name into a ResNet; none: leave them random.

    A folder is one of the hub's, or a checkpoint of ours, of which the encoder is taken.

    Raises:
        CheckpointError: they cannot be had, or are of another shape.
    """
    if weights is None:
        return
    path = Path(os.path.expanduser(weights))
    if path.is_dir():
        path = path / "model.safetensors"
    elif not path.is_file() and path.suffix not in FILES:
        path = hub_file(weights, "model.safetensors")
    load_strictly(network, from_torchvision(encoder_of(read_state(path))), weights)


def encoder_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's part of a checkpoint's weights; of anything else, all of it."""
    encoder = {key.removeprefix(ENCODER): value for key, value in state.items() if key.startswith(ENCODER)}
    return encoder or state
