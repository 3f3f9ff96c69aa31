"""Backbone for any vision model of the ``transformers`` library, given by its hub name or a local folder."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.image_processing_base import ImageProcessingMixin

from htt.config import BackboneConfig
from htt.errors import CheckpointError, ConfigError, UserError, shown

T = TypeVar("T")
RANDOM = "random"
"""Value of ``model.backbone.weights`` for random weights."""
_OTHER = ("id2label", "label2id", "_name_or_path", "auto_map")
"""Settings of a network that are no part of it: classes, the folder of its file, code that is never executed."""
PROBE = 224
"""Side (px) of the image from which a network's feature width is determined."""
ANSWER_S = 10.0
"""Timeout (s) of the request that checks that the hub is reachable."""


class HubBackbone(nn.Module):
    """One feature per frame: the model's pooled output, else its class token, else the mean of its tokens.

    Parameters without influence on this feature (for example a mask token) are frozen, because training with several
    workers would wait for gradients that never come.
    """

    mean: Sequence[float] = ()
    """Mean of the channels in [0, 1], from the settings of the model's image processor."""
    deviation: Sequence[float] = ()

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        known = inspect.signature(network.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in known else {}
        self.has_class_token = any(name.endswith("cls_token") for name, _ in network.named_parameters())
        self.width: int = self._probe()

    def forward(self, frames: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n width"]:
        """Return one feature per frame."""
        output = self.network(frames, **self.options)
        pooled = getattr(output, "pooler_output", None)
        if pooled is not None:
            return Tensor.flatten(pooled, 1)
        hidden: Tensor = output.last_hidden_state
        if hidden.dim() == 4:
            return hidden.mean(dim=(2, 3))
        return hidden[:, 0] if self.has_class_token else hidden.mean(dim=1)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the weights, as JSON data: the configuration of the network, and its normalisation."""
        own = self.network.config.to_diff_dict()  # type: ignore[union-attr, operator]
        config = {name: value for name, value in own.items() if name not in _OTHER}
        config["model_type"] = self.network.config.model_type  # type: ignore[union-attr]
        return {"config": config, "mean": list(self.mean), "deviation": list(self.deviation)}

    def _probe(self) -> int:
        feature: Tensor = self(torch.zeros(1, 3, PROBE, PROBE))
        torch.autograd.backward(feature.sum())
        for parameter in self.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        return feature.shape[1]


def build(config: BackboneConfig, settings: Mapping[str, Any] | None = None) -> nn.Module:
    """Return the model ``config.name`` with its own weights, or with those ``config.weights`` names.

    Args:
        config: Configuration of the backbone.
        settings: ``HubBackbone.settings`` of the same model, for one with random weights; the hub is then not asked.

    Raises:
        ConfigError: If the model cannot be loaded or is not a vision model.
        CheckpointError: If the weights cannot be loaded, or the settings are invalid.
    """
    if settings is not None:
        return _of_settings(settings)
    own = _pretrained(AutoConfig, config.name, ConfigError, "model.backbone.name")
    own = getattr(own, "vision_config", own)
    if config.weights == RANDOM:
        network: Any = AutoModel.from_config(own, trust_remote_code=False)  # type: ignore[no-untyped-call]
    else:
        network = _pretrained(
            AutoModel, config.weights or config.name, CheckpointError, "model.backbone.weights", config=own
        )
    try:
        with torch.random.fork_rng(devices=[]):
            backbone = HubBackbone(network.eval())
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"model.backbone.name must be a vision model, with images as its only input; got '{config.name}': {error}"
        ) from error
    if config.normalise is None:
        backbone.mean, backbone.deviation = _normalisation(config.name)
    return backbone


def _of_settings(settings: Mapping[str, Any]) -> HubBackbone:
    """Return the model of ``HubBackbone.settings`` with random weights."""
    try:
        own = AutoConfig.for_model(**settings["config"])
        network = AutoModel.from_config(own, trust_remote_code=False)  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(devices=[]):
            backbone = HubBackbone(network.eval())
        backbone.mean, backbone.deviation = tuple(settings["mean"]), tuple(settings["deviation"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"Cannot build the encoder from the settings in the checkpoint: {error!r}. Use the version of transformers "
            "that wrote it."
        ) from error
    return backbone


def _normalisation(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation of the channels, in [0, 1], from the settings of a model's image processor.

    Raises:
        ConfigError: If the model has no such settings.
    """

    def get(here: bool) -> Any:
        return ImageProcessingMixin.get_image_processor_dict(os.path.expanduser(name), local_files_only=here)

    try:
        settings, _ = _fetched(get, "model.backbone.name", name, ConfigError)
        mean, deviation = settings["image_mean"], settings["image_std"]
    except (ConfigError, KeyError) as error:
        raise ConfigError(
            f"No normalisation of pixels known for {shown(name)}: it has no settings of an image processor "
            "(preprocessor_config.json). Set model.backbone.normalise to imagenet or centre."
        ) from error
    return [float(value) for value in mean], [float(value) for value in deviation]


def hub_file(name: str, file: str, field: str = "model.backbone.weights") -> Path:
    """Return the local path of a file of a hub repository: from the cache if it is there, else downloaded.

    ``field`` is what ``name`` was given for, in messages: a field of the configuration, or an option.

    Raises:
        CheckpointError: If the file is not in the cache and cannot be downloaded.
    """
    from huggingface_hub import hf_hub_download

    def get(local: bool) -> Path:
        return Path(hf_hub_download(name, file, local_files_only=local))

    return _fetched(get, field, name, CheckpointError)


def hub_answers() -> bool:
    """Return whether the hub is reachable, by a single request; the hub's own client would retry for minutes."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
    except Exception:  # the types depend on the HTTP client of the installed library
        return False
    return True


def _pretrained(kind: Any, name: str, error_kind: type[UserError], field: str, **options: Any) -> Any:
    """Call ``kind.from_pretrained``, from the cache if possible; code shipped with a model is never executed."""

    def get(local: bool) -> Any:
        path = os.path.expanduser(name)
        return kind.from_pretrained(path, local_files_only=local, trust_remote_code=False, **options)

    return _fetched(get, field, name, error_kind)


def _fetched(get: Callable[[bool], T], field: str, name: str, error_kind: type[UserError]) -> T:
    """Return the result of ``get``: from local files if possible, else from the hub if ``name`` is no local path.

    Raises:
        UserError: Of the type ``error_kind``, if it cannot be loaded.
    """
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
            f"Cannot load {field} {shown(name)} (code shipped with a model is never executed): {reason}"
        ) from fault
    problem, what = ("does not have it", "spelling") if answers else ("does not answer", "network")
    option = f"{field} FOLDER" if field.startswith("--") else f"--set {field}=FOLDER"
    raise error_kind(
        f"Cannot find {field} {shown(name)}: it is not a local file or folder, it is not in the hub's cache, and the "
        f"hub {problem}. Check the {what}, or download it on a machine with a network "
        f"(hf download {name} --local-dir FOLDER) and give its path: {option}"
    ) from fault
