"""Shared code of the ResNets: transformers' network, and weights with torchvision's or transformers' names."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from htt.model.backbones._hub import RANDOM, hub_file
from htt.model.weights import from_torchvision, load_strictly, read_state

FILES = (".pth", ".pt", ".bin", ".tar", ".safetensors")
"""Suffixes of weight files; a name with another suffix that is no local path is a hub name."""
ENCODER = "features.backbone.network."
"""Prefix of the encoder's weights in a checkpoint of a whole model."""


def resnet(embedding: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> ResNetModel:
    """Return a ResNet of basic blocks with random weights (He et al. 2016) and the strides of torchvision."""
    config = ResNetConfig(embedding_size=embedding, hidden_sizes=list(widths), depths=list(depths), layer_type="basic")
    return ResNetModel(config)


def load_weights(network: nn.Module, weights: str | None) -> None:
    """Load weights from a file, a folder or a hub name into a ResNet; None and "random" keep the random weights.

    A folder is a copy of a hub repository, or a checkpoint of this project, of which the encoder is used.

    Raises:
        CheckpointError: If the weights cannot be loaded or have another shape.
    """
    if weights in (None, RANDOM):
        return
    path = Path(os.path.expanduser(weights))
    if path.is_dir():
        path = path / "model.safetensors"
    elif not path.is_file() and path.suffix not in FILES:
        path = hub_file(weights, "model.safetensors")
    load_strictly(network, from_torchvision(encoder_of(read_state(path))), weights)


def encoder_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the encoder's part of a model checkpoint; any other state is returned whole."""
    encoder = {key.removeprefix(ENCODER): value for key, value in state.items() if key.startswith(ENCODER)}
    return encoder or state
