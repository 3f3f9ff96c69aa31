"""Checkpoints: folders without pickle, so opening one never executes code.

::

    model.safetensors       the weights
    training.safetensors    the optimiser's tensors; with ``train.ema`` also the weights of the last step
    checkpoint.json         format, checksums, configuration, facts of the data, epoch, cursor, metrics, the optimiser's
                            numbers, the settings of an encoder of the hub
    clips.parquet           this model's result for each validation clip, if there are any (``clip_table``)

``save`` writes beside the folder and renames, so a checkpoint is either complete or absent. ``load`` builds the saved
model; ``restore`` resumes a training from exactly the saved state; ``import_official`` reads the weights that HTT's
authors released.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from htt.config import Config, ModelConfig, from_plain
from htt.errors import CheckpointError, ConfigError, DamagedCheckpointError, shown, storage_errors
from htt.evaluation import clip_table
from htt.files import sha256
from htt.info import NAMES, DataInfo
from htt.model.htt import HTT
from htt.model.weights import RECORD, check_sums, from_torchvision, load_strictly, read_state
from htt.training.state import optimizer_parts, optimizer_state

if TYPE_CHECKING:
    import polars as pl

FORMAT = 1
OWN = "weights."
"""First part of the names of a model's own weights beside the optimiser's tensors, if the model is an average."""
MODEL, TRAINING, CLIPS = "model.safetensors", "training.safetensors", clip_table.FILE


@dataclass(frozen=True)
class Progress:
    """Progress of a training."""

    epoch: int
    """Epoch in which to resume, from 0."""
    cursor: int = 0
    """Windows of that epoch that are done, over all workers."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Other state the loop needs to resume, as plain JSON data (for example the state of a gradient scaler)."""


@dataclass(frozen=True)
class Checkpoint:
    """Record of a saved model, without its tensors."""

    folder: Path
    config: Config
    info: DataInfo
    progress: Progress
    metrics: dict[str, float]
    """Metrics of the last evaluation before saving, by name."""
    encoder: Mapping[str, Any] | None = None
    """Settings of an encoder of the hub, or None; see ``FrameFeatures.settings``."""


def save(
    folder: str | Path,
    model: HTT,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    config: Config,
    info: DataInfo,
    metrics: Mapping[str, float],
    clips: pl.DataFrame | None = None,
    averages: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a checkpoint atomically, replacing an existing one, and return its folder.

    Args:
        folder: folder of the checkpoint.
        model: model whose weights are saved.
        optimizer: optimiser whose state is saved.
        progress: progress of the training.
        config: complete configuration of the training.
        info: facts of its data.
        metrics: metrics of the last evaluation.
        clips: table of that evaluation's validation clips, or None if there are no such clips.
        averages: averaged weights, which are the saved model's; its own are kept to resume. None without averages.

    Raises:
        StorageError: the disk is full or not writable.
    """
    folder = Path(folder)
    tensors, numbers = optimizer_parts(optimizer)
    record = _plain(model, config, info, progress, metrics, numbers)
    own = {} if averages is None else {f"{OWN}{name}": value for name, value in model.state_dict().items()}
    with _complete(folder, record) as partial:
        _write(_storable(model.state_dict() if averages is None else averages), partial / MODEL)
        _write(_storable({**tensors, **own}), partial / TRAINING)
        if clips is not None:
            clips.write_parquet(partial / CLIPS)
    return folder


def save_for_use(folder: str | Path, model: HTT, config: Config, of: Checkpoint, texts: Mapping[str, str]) -> Path:
    """Write a checkpoint that can be loaded but not resumed: the weights and the record, and some text files.

    Args:
        folder: folder to write; it must not exist.
        model: model of the checkpoint.
        config: configuration to write in place of the checkpoint's.
        of: record of the checkpoint.
        texts: {name: content} of further files.

    Raises:
        StorageError: the disk is full or not writable.
    """
    folder = Path(folder)
    with _complete(folder, _plain(model, config, of.info, Progress(of.progress.epoch), of.metrics, {})) as partial:
        _write(_storable(model.state_dict()), partial / MODEL)
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")
    return folder


def _plain(
    model: HTT,
    config: Config,
    info: DataInfo,
    progress: Progress,
    metrics: Mapping[str, float],
    optimizer: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the record of a checkpoint as JSON data."""
    encoder = model.features.settings
    return {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "info": asdict(info),
        "progress": asdict(progress),
        "metrics": dict(metrics),
        "optimizer": dict(optimizer),
        **({"encoder": encoder} if encoder else {}),
    }


@contextlib.contextmanager
def _complete(folder: Path, record: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a folder for the files of a checkpoint; with its record and checksums, it then replaces ``folder``."""
    partial = folder.with_name(f".{folder.name}.partial")
    with storage_errors(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        sums = {name: sha256(partial / name) for name in (CLIPS, MODEL, TRAINING) if (partial / name).exists()}
        signed = {**record, "sha256": {**sums, RECORD: _sum_of(record)}}
        (partial / RECORD).write_text(json.dumps(signed, indent=1), encoding="utf-8")
        _swap(partial, folder)


def _write(tensors: dict[str, Tensor], file: Path) -> None:
    """Write a safetensors file; raise ``OSError`` if the system refuses, which that library reports only as text."""
    file.touch()
    mode = file.stat().st_mode & 0o777  # as of any new file; that library makes files for the owner only
    try:
        save_file(tensors, file)
        file.chmod(mode)
    except SafetensorError as error:
        refused = re.search(r"os error (\d+)", str(error))
        if refused is None:
            raise
        raise OSError(int(refused[1]), os.strerror(int(refused[1])), str(file)) from error


def read(folder: str | Path) -> Checkpoint:
    """Return the record of the checkpoint in a folder, without its tensors.

    Raises:
        CheckpointError: there is no checkpoint, or it has another format.
    """
    plain = _record(Path(folder))
    try:
        TypeAdapter(DataInfo).validate_python(plain["info"])
        info = {**plain["info"], **{name: tuple(plain["info"].get(name, ())) for name in NAMES}}
        return Checkpoint(
            Path(folder),
            from_plain(plain["config"]),
            DataInfo(**info),
            Progress(**plain["progress"]),
            dict(plain["metrics"]),
            plain.get("encoder"),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        reason = shown(" ".join(str(error).split()), quoted=False)
        raise CheckpointError(
            f"Cannot read {Path(folder) / RECORD}: {reason}. Use the version of htt that wrote it."
        ) from error


def load(folder: str | Path, device: torch.device | str = "cpu") -> tuple[HTT, Checkpoint]:
    """Return the model of a checkpoint, in eval mode, and the checkpoint's record.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its weights do not fit its configuration.
    """
    checkpoint = read(folder)
    model = HTT.without_weights(checkpoint.config.model, checkpoint.info, checkpoint.encoder)
    load_strictly(model, _tensors(Path(folder) / MODEL), str(folder))
    return model.to(device).eval(), checkpoint


def restore(folder: str | Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Restore a model and its optimiser from a checkpoint, and return the saved progress.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its tensors do not fit (lists the keys).
    """
    folder = Path(folder)
    checkpoint = read(folder)
    stored = _tensors(folder / TRAINING)
    own = {name.removeprefix(OWN): value for name, value in stored.items() if name.startswith(OWN)}
    load_strictly(model, own or _tensors(folder / MODEL), str(folder))
    optimizer.load_state_dict(optimizer_state(stored, _record(folder)["optimizer"], optimizer, folder))
    return checkpoint.progress


def verify(folder: str | Path) -> None:
    """Raise ``DamagedCheckpointError`` unless a training can resume from the checkpoint.

    All bytes are compared with their checksums. Checkpoints of an older version have no checksums; their files are read
    instead.
    """
    folder = Path(folder)
    if "sha256" in _record(folder):
        check_sums(folder)
    else:
        _tensors(folder / MODEL)
        _tensors(folder / TRAINING)


def import_official(path: str | Path, config: ModelConfig, info: DataInfo) -> HTT:
    """Return HTT with the weights of a file saved by its authors' code, in eval mode.

    The file holds ``{"state_dict": ...}`` or the bare state.

    Args:
        path: a torch file (only tensors are read) or ``.safetensors``.
        config: Architecture; the defaults are the released one.
        info: classes and hands the file was trained for.

    Raises:
        CheckpointError: the file is unreadable or has other tensors (lists the keys).
    """
    model = HTT.without_weights(config, info)
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
    """Return the released code's tensors by our names, without its unused classifier and its positional table."""
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
    if not folder.exists() and _older(folder).exists():  # the process was killed between the two renames of _swap
        os.replace(_older(folder), folder)
    try:
        plain: Any = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DamagedCheckpointError(
            f"No checkpoint in {folder}: expected a {RECORD}. Give the folder that a training wrote."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(
            f"Damaged checkpoint: {folder / RECORD} is not valid JSON: {error}. Use an older one."
        ) from error
    given = plain.get("format") if isinstance(plain, dict) else None
    if given != FORMAT:
        raise CheckpointError(
            f"Invalid checkpoint {folder}: expected format {FORMAT}, got {given}. Use the version that wrote it."
        )
    if "sha256" in plain and (plain["sha256"] or {}).get(RECORD) != _sum_of(plain):
        raise DamagedCheckpointError(
            f"Damaged checkpoint: {folder / RECORD} differs from what was saved. Copy it again from its source, or "
            "use an older one."
        )
    return dict(plain)


def _sum_of(record: Mapping[str, Any]) -> str:
    """Return the checksum of a record, without the checksums in it."""
    plain = json.loads(json.dumps({name: value for name, value in record.items() if name != "sha256"}))
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return read_state(path)
    except CheckpointError as error:  # also if the file is missing, because the record exists
        raise DamagedCheckpointError(str(error)) from error


def _swap(partial: Path, folder: Path) -> None:
    """Replace an older folder with a finished one."""
    if folder.exists():
        shutil.rmtree(_older(folder), ignore_errors=True)
        os.replace(folder, _older(folder))
    os.replace(partial, folder)
    shutil.rmtree(_older(folder), ignore_errors=True)


def _older(folder: Path) -> Path:
    """Return the temporary path of the checkpoint that is being replaced."""
    return folder.with_name(f".{folder.name}.old")


def _storable(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors as separate, contiguous copies, as the format requires."""
    return {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in state.items()}
