"""What the ResNets share: transformers' network, and weights in torchvision's names or transformers' own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from transformers import ResNetConfig, ResNetModel

from htt.model.backbones._hub import hub_file
from htt.model.weights import load_strictly, read_state

RENAMES = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", r"encoder.stages.\1.layers.\2.layer.\3.convolution."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", r"encoder.stages.\1.layers.\2.layer.\3.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", r"encoder.stages.\1.layers.\2.shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", r"encoder.stages.\1.layers.\2.shortcut.normalization."),
)
"""torchvision's (and timm's) names -> transformers'; stages and convolutions count from 1 there and from 0 here."""

CLASSIFIER = ("fc.", "classifier.")
"""Names of the 1000-way classifier, which is not wanted."""


def resnet(embedding: int, widths: tuple[int, ...], depths: tuple[int, ...]) -> ResNetModel:
    """A ResNet of basic blocks with random weights (He et al. 2016); its strides are torchvision's."""
    config = ResNetConfig(embedding_size=embedding, hidden_sizes=list(widths), depths=list(depths), layer_type="basic")
    return ResNetModel(config)


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by transformers' names, without the classifier; its own names stay, less their ``resnet.``."""
    kept = {key.removeprefix("resnet."): value for key, value in state.items() if not key.startswith(CLASSIFIER)}
    return {_rename(key): value for key, value in kept.items()}


def load_weights(network: nn.Module, weights: str | None) -> None:
    """Put the weights of a file, of a folder or of a hub name into a ResNet; none: leave them random.

    Raises:
        CheckpointError: they cannot be had, or are of another shape.
    """
    if weights is None:
        return
    path = Path(weights)
    if path.is_dir():
        path = path / "model.safetensors"
    elif not path.is_file() and not path.suffix:
        path = hub_file(weights, "model.safetensors")
    load_strictly(network, from_torchvision(read_state(path)), weights)


def _rename(key: str) -> str:
    for pattern, name in RENAMES:
        renamed, count = re.subn(pattern, name, key)
        if count:
            return re.sub(r"(stages|layer)\.(\d)", lambda found: f"{found[1]}.{int(found[2]) - 1}", renamed)
    return key
