"""A checkpoint is a folder without pickle: anyone may open it, and nothing in it is ever executed.

::

    model.safetensors       the weights
    training.safetensors    the optimiser's tensors, the random states
    checkpoint.json         format, checksums, configuration, facts of the data, epoch, cursor, metrics, the optimiser's
                            numbers
    clips.parquet           what this model says of each validation clip, if there are any (``clip_table``)

``save`` writes beside the folder and renames, so a checkpoint is whole or not there. ``load`` builds the model it
holds; ``restore`` goes on with a training exactly where it stood; ``import_official`` reads the weights that HTT's
authors released.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from htt.config import Config, ModelConfig, from_plain, override
from htt.errors import CheckpointError, ConfigError, DamagedCheckpointError, shown, storage_errors
from htt.info import DataInfo
from htt.model.htt import HTT
from htt.model.weights import RECORD, check_sums, from_torchvision, load_strictly, read_state, sha256
from htt.training.state import optimizer_parts, optimizer_state, random_state, set_random_state

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
MODEL, TRAINING, CLIPS = "model.safetensors", "training.safetensors", "clips.parquet"


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    epoch: int
    """The epoch to go on in, from 0."""
    cursor: int = 0
    """Windows of that epoch that are done, over all workers."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else the loop needs to go on, as plain JSON data (the state of a gradient scaler, say)."""


@dataclass(frozen=True)
class Checkpoint:
    """What is known of a saved model."""

    folder: Path
    config: Config
    info: DataInfo
    progress: Progress
    metrics: dict[str, float]
    """Of the evaluation before it was saved, by name."""


def save(
    folder: str | Path,
    model: HTT,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    config: Config,
    info: DataInfo,
    metrics: Mapping[str, float],
    clips: pl.DataFrame | None = None,
) -> Path:
    """Write a checkpoint, whole or not at all, in place of one that is there; the folder is returned.

    Args:
        folder: of the checkpoint.
        model: its weights.
        optimizer: its state.
        progress: where the training stands.
        config: the training, completely.
        info: of its data.
        metrics: of the evaluation just before.
        clips: what that evaluation says of each validation clip; none: there are no such clips.

    Raises:
        StorageError: the disk is full, or may not be written to.
    """
    folder = Path(folder)
    partial = folder.with_name(f".{folder.name}.partial")
    tensors, numbers = optimizer_parts(optimizer)
    record = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "info": asdict(info),
        "progress": asdict(progress),
        "metrics": dict(metrics),
        "optimizer": numbers,
    }
    with storage_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _write(_storable(model.state_dict()), partial / MODEL)
        _write(_storable({**tensors, **random_state()}), partial / TRAINING)
        if clips is not None:
            clips.write_parquet(partial / CLIPS)
        sums = {path.name: sha256(path) for path in sorted(partial.iterdir())}
        signed = {**record, "sha256": {**sums, RECORD: _sum_of(record)}}
        (partial / RECORD).write_text(json.dumps(signed, indent=1), encoding="utf-8")
        _swap(partial, folder)
    return folder


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    """Write a safetensors file; what the system refuses is an ``OSError``, which that library only tells in words."""
    file.touch()
    mode = file.stat().st_mode & 0o777  # of any new file here: that library makes one which its owner alone may read
    try:
        save_file(tensors, file)
        file.chmod(mode)
    except SafetensorError as error:
        refused = re.search(r"os error (\d+)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(file)) from error


def read(folder: str | Path) -> Checkpoint:
    """What is known of the checkpoint in a folder, without its tensors.

    Raises:
        CheckpointError: there is no checkpoint, or not one of this format.
    """
    plain = _record(Path(folder))
    try:
        TypeAdapter(DataInfo).validate_python(plain["info"])
        info = {**plain["info"], "actions": tuple(plain["info"]["actions"]), "objects": tuple(plain["info"]["objects"])}
        return Checkpoint(
            Path(folder),
            from_plain(plain["config"]),
            DataInfo(**info),
            Progress(**plain["progress"]),
            dict(plain["metrics"]),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        reason = shown(" ".join(str(error).split()), quoted=False)
        raise CheckpointError(
            f"{Path(folder) / RECORD} must be what this version writes; {reason}. Use the version that made it."
        ) from error


def load(folder: str | Path, device: torch.device | str = "cpu") -> tuple[HTT, Checkpoint]:
    """The model a checkpoint holds, in eval mode, and what is known of it.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its weights are not those of its configuration.
    """
    checkpoint = read(folder)
    architecture = override(checkpoint.config, {"model.backbone.weights": None}).model  # its weights come right after
    model = HTT(architecture, checkpoint.info)
    load_strictly(model, _tensors(Path(folder) / MODEL), str(folder))
    return model.to(device).eval(), checkpoint


def restore(folder: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Bring a model, its optimiser and torch's random states to where they stood; the way on is returned.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or it is of another shape (it says which keys).
    """
    folder = Path(folder)
    checkpoint = read(folder)
    load_strictly(model, _tensors(folder / MODEL), str(folder))
    stored = _tensors(folder / TRAINING)
    optimizer.load_state_dict(optimizer_state(stored, _record(folder)["optimizer"], optimizer, folder))
    set_random_state(stored)
    return checkpoint.progress


def verify(folder: str | Path) -> None:
    """Raise a ``DamagedCheckpointError`` unless a training can go on from a checkpoint.

    All bytes are compared with their checksums; of an older version, which wrote none, the files are read.
    """
    folder = Path(folder)
    if "sha256" in _record(folder):
        check_sums(folder)
    else:
        _tensors(folder / MODEL)
        _tensors(folder / TRAINING)


def import_official(path: str | Path, config: ModelConfig, info: DataInfo) -> HTT:
    """HTT with the weights of a file its authors' code saved (``{"state_dict": ...}`` or bare), in eval mode.

    Args:
        path: a torch file (only tensors are read) or ``.safetensors``.
        config: the architecture; the defaults are the released one.
        info: the classes and hands the file was trained for.

    Raises:
        CheckpointError: the file is unreadable or of another shape (it says which keys).
    """
    model = HTT(config.model_copy(update={"backbone": config.backbone.model_copy(update={"weights": None})}), info)
    load_strictly(model, from_official(read_state(path)), str(path))
    return model.eval()


OFFICIAL = (
    (r"^action_token$", "action_block.token"),
    (r"^transformer_pose\.encoder\.", "pose_block."),
    (r"^transformer_action\.encoder\.", "action_block.encoder."),
    (r"self_attn\.in_proj_", "attention.project."),
    (r"self_attn\.out_proj\.", "attention.out."),
    (r"\.linear1\.", ".expand."),
    (r"\.linear2\.", ".contract."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".feedforward_norm."),
    (r"^image_to_hand_pose\.mlp\.", "pose_head.layers."),
    (r"^image_to_olabel_embed\.", "object_head.embed."),
    (r"^obj_classification\.classifier\.", "object_head.classify."),
    (r"^hand_pose3d_to_action_input\.", "action_input.cues.hands.embed."),
    (r"^olabel_to_action_input\.", "action_input.cues.object.embed."),
    (r"^concat_to_action_input\.", "action_input.join."),
    (r"^action_classification\.classifier\.", "action_head."),
)
"""The released code's names -> ours; its encoder is torchvision's ResNet-18 below ``meshregnet.base_net``."""


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released code's tensors by our names, without its unused classifier and its table of positions."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    encoder = "meshregnet.base_net."
    frames = from_torchvision({k.removeprefix(encoder): v for k, v in state.items() if k.startswith(encoder)})
    ours = {f"features.backbone.network.{key}": value for key, value in frames.items()}
    for key, value in state.items():
        if key.startswith(encoder) or key.endswith(".pe"):
            continue
        for pattern, name in OFFICIAL:
            key = re.sub(pattern, name, key)
        ours[key] = value.flatten() if key == "action_block.token" else value
    return ours


def _record(folder: Path) -> dict[str, Any]:
    if not folder.exists() and _older(folder).exists():  # killed between the two renames of _swap
        os.replace(_older(folder), folder)
    try:
        plain: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedCheckpointError(
            f"A checkpoint must be a folder with a {RECORD}; there is none in {folder}. Name the folder training left."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"{folder / RECORD} must be JSON; {error}. Take an older checkpoint.") from error
    found = plain.get("format") if isinstance(plain, dict) else None
    if found != FORMAT:
        raise CheckpointError(
            f"A checkpoint must be of format {FORMAT}; {folder} says {found}. Use the version of htt that made it."
        )
    if "sha256" in plain and (plain["sha256"] or {}).get(RECORD) != _sum_of(plain):
        raise DamagedCheckpointError(
            f"The checkpoint is damaged: {folder / RECORD} is not as it was saved. Copy it again from where it "
            "came, or take an older one."
        )
    return dict(plain)


def _sum_of(record: Mapping[str, Any]) -> str:
    """Return the checksum of a record, without the checksums in it."""
    plain = json.loads(json.dumps({name: value for name, value in record.items() if name != "sha256"}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return read_state(path)
    except CheckpointError as error:  # also where it is missing: the record is there
        raise DamagedCheckpointError(str(error)) from error


def _swap(partial: Path, folder: Path) -> None:
    """Put a finished folder in the place of an older one."""
    if folder.exists():
        shutil.rmtree(_older(folder), ignore_errors=True)
        os.replace(folder, _older(folder))
    os.replace(partial, folder)
    shutil.rmtree(_older(folder), ignore_errors=True)


def _older(folder: Path) -> Path:
    """Where the checkpoint that is being replaced waits for the moment of the change."""
    return folder.with_name(f".{folder.name}.old")


def _storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor by itself and in plain order, as the format wants it."""
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
