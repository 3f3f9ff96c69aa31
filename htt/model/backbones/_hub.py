"""Any vision model of the ``transformers`` library, by its name on the hub or its folder on this machine."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from htt.config import BackboneConfig
from htt.errors import CheckpointError, ConfigError, UserError, shown

T = TypeVar("T")
PROBE = 224
"""Side of the image whose feature tells a network's width, px."""
ANSWER_S = 10.0
"""So long the hub may take to answer at all."""


class HubBackbone(nn.Module):
    """The pooled output of a vision model; or its class token; or the mean of its tokens: the first that it has.

    Parameters that have no part in this feature (a mask token, say) do not learn: several workers would wait in vain
    for their gradients.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        known = inspect.signature(network.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
        self.has_class_token = any(name.endswith("cls_token") for name, _ in network.named_parameters())
        self.width: int = self._probe()

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n width"]:
        """One feature a frame."""
        output = self.network(frames, **self.options)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return Tensor.flatten(pooled, 1)
        hidden: Tensor = output.last_hidden_state
        if hidden.dim() == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self.has_class_token else hidden.mean(dim=1)

    def _probe(self) -> int:
        feature: Tensor = self(torch.zeros(1, 3, PROBE, PROBE))
        torch.autograd.backward(feature.sum())
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        return feature.shape[1]


def build(config: BackboneConfig) -> nn.Module:
    """The model ``config.name``, with the weights of ``config.weights`` (a hub name or a folder) or random ones.

    Raises:
        ConfigError: no such model can be had, or it is no vision model.
        CheckpointError: its weights cannot be had.
    """
    settings = _pretrained(AutoConfig, config.name, ConfigError, "model.backbone.name")
    settings = getattr(settings, "vision_config", settings)
    if config.weights is None:
        network: Any = AutoModel.from_config(settings, trust_remote_code=False)  # type: ignore[no-untyped-call]
    else:
        network = _pretrained(AutoModel, config.weights, CheckpointError, "model.backbone.weights", config=settings)
    try:
        with torch.random.fork_rng(devices=[]):
            return HubBackbone(network.eval())
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"model.backbone.name must be a model that takes images alone; '{config.name}' does not: {error}"
        ) from error


def hub_file(name: str, file: str) -> Path:
    """The local path of a file of a hub repository: from the cache if it is there, else downloaded.

    Raises:
        CheckpointError: it is not in the cache and the hub does not give it.
    """
    from huggingface_hub import hf_hub_download

    def get(here: bool) -> Path:
        return Path(hf_hub_download(name, file, local_files_only=here))

    return _fetched(get, "model.backbone.weights", name, CheckpointError)


def hub_answers() -> bool:
    """Whether the hub can be reached: asked once, where its own client would try for minutes."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
    except Exception:  # of any kind: they are those of whichever client of HTTP the library has
        return False
    return True


def _pretrained(kind: Any, name: str, error_kind: type[UserError], field: str, **options: Any) -> Any:
    """``kind.from_pretrained``, from the cache if it can; code that comes with a model is never run."""

    def get(here: bool) -> Any:
        place = os.path.expanduser(name)
        return kind.from_pretrained(place, local_files_only=here, trust_remote_code=False, **options)

    return _fetched(get, field, name, error_kind)


def _fetched(get: Callable[[bool], T], field: str, name: str, error_kind: type[UserError]) -> T:
    """What ``get`` gives, asked for what is on this machine first, and then the hub."""
    local = os.path.exists(os.path.expanduser(name))
    try:
        return get(True)
    except (OSError, ValueError) as error:
        fault: Exception = error
    answers = not local and hub_answers()
    if answers:
        try:
            return get(False)
        except (OSError, ValueError) as error:
            fault = error
    if local or not isinstance(fault, OSError):
        reason = shown(" ".join(str(fault).split()), quoted=False)
        raise error_kind(
            f"{field} must be a model that can be loaded without running code of its own; {shown(name)} cannot: "
            f"{reason}"
        ) from fault
    hub, what = ("does not give it", "spelling") if answers else ("does not answer", "network")
    raise error_kind(
        f"{field} must be a local path or a name on the hub; {shown(name)} is no folder or file here, is not in the "
        f"hub's cache, and the hub {hub}. Check the {what}, or download it on a machine with a network "
        f"(hf download {name} --local-dir FOLDER) and give its path: --set {field}=FOLDER"
    ) from fault
