"""Loading of weights: safe reading of files (no code is executed) and a strict match of keys and shapes."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from htt.errors import CheckpointError, DamagedCheckpointError
from htt.files import sha256

TORCHVISION = (
    (r"^conv1\.", "embedder.embedder.convolution."),
    (r"^bn1\.", "embedder.embedder.normalization."),
    (r"^layer(\d)\.(\d+)\.conv(\d)\.", r"encoder.stages.\1.layers.\2.layer.\3.convolution."),
    (r"^layer(\d)\.(\d+)\.bn(\d)\.", r"encoder.stages.\1.layers.\2.layer.\3.normalization."),
    (r"^layer(\d)\.(\d+)\.downsample\.0\.", r"encoder.stages.\1.layers.\2.shortcut.convolution."),
    (r"^layer(\d)\.(\d+)\.downsample\.1\.", r"encoder.stages.\1.layers.\2.shortcut.normalization."),
)
"""ResNet keys of torchvision and timm -> keys of transformers, where stages and convolutions are numbered from 0."""

CLASSIFIER = ("fc.", "classifier.")
"""Key prefixes of the 1000-way classifier, which is dropped."""

RECORD = "checkpoint.json"
"""File of a checkpoint that holds the checksums of its other files, under ``sha256``."""
SHOWN = 5
"""Number of keys that an error message lists of each kind; the rest are counted."""


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file or of a torch file (``{"state_dict": ...}`` or bare), on the CPU.

    Raises:
        CheckpointError: If the file is missing or holds anything but tensors by name.
        DamagedCheckpointError: If the file cannot be read, or its checksum differs from the checkpoint's record.
    """
    path = Path(path)
    check_sums(path.parent, [path.name])
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"No such file of weights: {path}.") from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DamagedCheckpointError(
            f"Cannot read weights {path}: expected a .safetensors file or a torch state dict; {reason}. Copy it again."
        ) from error
    state = stored.get("state_dict", stored) if isinstance(stored, dict) else stored
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"Invalid weights {path}: expected tensors by name.")
    return state


def check_sums(folder: Path, names: Collection[str] | None = None) -> None:
    """Compare files of a checkpoint with the checksums in its record; do nothing without a record, as in old versions.

    Args:
        folder: Folder of the checkpoint.
        names: Names of the files to check, or None for all files that have a checksum.

    Raises:
        DamagedCheckpointError: If a file is missing or its checksum differs.
    """
    try:
        sums = dict(json.loads((folder / RECORD).read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    for name, wanted in sums.items():
        if name == RECORD or (names is not None and name not in names):
            continue
        digest = sha256(folder / name) if (folder / name).is_file() else None
        if digest != wanted:
            fault = f"has sha256 {digest[:12]}, saved was {str(wanted)[:12]}" if digest else "is missing"
            raise DamagedCheckpointError(
                f"Damaged checkpoint: {folder / name} {fault}. Copy it again from its source, or use an older one."
            )


def load_strictly(network: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Load ``state`` into ``network``; all keys must match, except that counters of batch norm may be absent.

    Args:
        network: Network that receives the weights.
        state: Tensors by name.
        name: Source of the weights, for the error message.

    Raises:
        CheckpointError: If keys are missing, not expected, or of another shape; the message lists them.
    """
    own = network.state_dict()
    wanted = {key for key in own if not key.endswith("num_batches_tracked")}
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = {
        "missing": sorted(wanted - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "of another shape": shapes,
    }
    if any(faults.values()):
        listed = "; ".join(f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in faults.items() if keys)
        raise CheckpointError(
            f"The weights of {name} do not fit the model: {listed}. Build the model with the configuration of the "
            "weights."
        )
    network.load_state_dict({**own, **state})


def _some(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:SHOWN])
    return f"{shown} and {len(keys) - SHOWN} more" if len(keys) > SHOWN else shown


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under transformers' names, without the classifier.

    Names that are transformers' already are kept; their prefix ``resnet.`` is removed.
    """
    encoder = {key.removeprefix("resnet."): value for key, value in state.items() if not key.startswith(CLASSIFIER)}
    return {_rename(key): value for key, value in encoder.items()}


def _rename(key: str) -> str:
    for pattern, name in TORCHVISION:
        renamed, count = re.subn(pattern, name, key)
        if count:
            return re.sub(r"(stages|layer)\.(\d)", lambda found: f"{found[1]}.{int(found[2]) - 1}", renamed)
    return key
