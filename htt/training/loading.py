"""Loading of trained models for given data: our checkpoints, or the weights HTT's authors released.

A training can also start from a checkpoint, ``model.weights``: from its weights alone, with a new optimiser; and learn
from one, ``distill.teacher``.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import torch

from htt.config import Config, flatten
from htt.data.store.remote import Remote, is_remote
from htt.errors import CheckpointError
from htt.info import DataInfo
from htt.model.htt import HTT
from htt.model.weights import RECORD, load_strictly, read_state
from htt.registry import preset
from htt.training import checkpoint as checkpoints


def open_trained(checkpoint: Path, info: DataInfo, *, official: bool = False) -> tuple[HTT, Config]:
    """Return the model in eval mode on the CPU, and the configuration it was trained with.

    Args:
        checkpoint: folder of one of our checkpoints, or the authors' file.
        info: facts of the data the model is used on.
        official: whether it is the authors' file; its architecture is then the paper's.

    Raises:
        CheckpointError: the checkpoint is unreadable, or its classes, hands or image size differ from the data's.
    """
    config = trained_config(checkpoint, official=official)
    if official:
        return checkpoints.import_official(checkpoint, config.model, info), config
    model, record = checkpoints.load(checkpoint)
    check_info(checkpoint, record.info, info)
    return model, config


def trained_config(checkpoint: Path, *, official: bool = False) -> Config:
    """Return the configuration a model was trained with; the paper's for the authors' file.

    Raises:
        CheckpointError: there is no such file or checkpoint.
    """
    if official:
        if not checkpoint.is_file():
            raise CheckpointError(
                f"Invalid checkpoint {checkpoint}: --official expects the file of weights that HTT's authors released."
            )
        return preset("paper")
    if checkpoint.is_file():
        raise CheckpointError(
            f"Invalid checkpoint {checkpoint}: expected the folder that a training wrote, got a file. For weights that "
            "the authors of HTT released, add --official."
        )
    return checkpoints.read(checkpoint).config


SHAPES = ("width", "name", "size", "block", "depth", "feedforward", "cues", "hands", "causal", "frames", "action")
"""Fields of ``model`` and its parts that give the shapes of the weights."""


def load_start(model: HTT) -> None:
    """Load the checkpoint ``model.weights`` into a new model; do nothing if the configuration names none.

    Raises:
        CheckpointError: there is no such checkpoint, it is damaged, or it is of another architecture, of other data or,
            if the encoder is frozen, of another encoder.
        ConfigError, DataError, StorageError: it cannot be fetched from its object store.
    """
    start = model.config.weights
    if start is None:
        return
    with _fetched(start, "model.weights") as folder:
        try:
            saved = checkpoints.read(folder)
            state = read_state(folder / checkpoints.MODEL)
        except CheckpointError as error:  # not a damaged one: an older checkpoint of this training would not help
            raise CheckpointError(f"Cannot start from model.weights {start}: {error}") from error
    check_info(start, saved.info, model.info)
    own = flatten(model.config)
    differing = [
        f"model.{path} {value} in the checkpoint, {own[path]} here"
        for path, value in flatten(saved.config.model).items()
        if path.rpartition(".")[2] in SHAPES and value != own[path]
    ]
    frozen = not model.config.backbone.trained
    encoder = {name: value.clone() for name, value in model.features.backbone.state_dict().items() if frozen}
    try:
        load_strictly(model, state, start)
    except CheckpointError as error:
        if not differing:
            raise
        raise CheckpointError(
            f"The checkpoint model.weights {start} has another architecture: {'; '.join(differing)}. Set these fields "
            "as in the checkpoint, or leave out model.weights."
        ) from error
    if any(not torch.equal(value, state[f"features.backbone.{name}"]) for name, value in encoder.items()):
        raise CheckpointError(
            f"The frozen encoder of model.backbone differs from that of the checkpoint model.weights {start}, and its "
            "blocks were trained with the latter. Set model.backbone.weights as in the checkpoint, or "
            "model.backbone.trained to true."
        )


def open_teacher(config: Config, student: HTT, device: torch.device | str = "cpu") -> HTT | None:
    """Return the model of ``distill.teacher`` in eval mode, without gradients, or None without a teacher.

    Raises:
        CheckpointError: there is no such checkpoint, it is damaged, its classes, hands or image size differ from the
            student's, or the training reads stored features of an encoder that is not the teacher's.
        ConfigError, DataError, StorageError: it cannot be fetched from its object store.
    """
    path = config.distill.teacher
    if path is None:
        return None
    name = f"distill.teacher {path}"
    with _fetched(path, "distill.teacher") as folder:
        try:
            teacher, saved = checkpoints.load(folder, device)
        except CheckpointError as error:  # not a damaged one: an older checkpoint of this training would not help
            raise CheckpointError(f"Cannot learn from {name}: {error}") from error
    check_info(name, saved.info, student.info)
    if config.on_features and not _same_encoder(teacher, student):
        raise CheckpointError(
            f"The encoder of {name} is not model.backbone, whose stored features this training reads. Set "
            "data.augment.views to none, so that it reads images, or choose a teacher with this frozen encoder."
        )
    return teacher.requires_grad_(False)


def _same_encoder(first: HTT, second: HTT) -> bool:
    """Return whether two models have the same features of an image before ``to_width``."""
    plain, other = (
        each.config.backbone.model_dump(include={"name", "normalise", "size", "trained"}) for each in (first, second)
    )
    weights, others = (each.features.backbone.state_dict() for each in (first, second))
    return plain == other and all(torch.equal(value.cpu(), others[name].cpu()) for name, value in weights.items())


@contextlib.contextmanager
def _fetched(checkpoint: str, field: str) -> Iterator[Path]:
    """Yield the folder of a checkpoint on this machine; one in an object store is copied for the ``with`` block.

    ``field`` is the path of the field that names it, for messages.
    """
    if not is_remote(checkpoint):
        yield Path(checkpoint.removeprefix("file://")).expanduser()
        return
    store = Remote(checkpoint, name=field)
    with tempfile.TemporaryDirectory(prefix="htt-") as scratch:
        for name in (RECORD, checkpoints.MODEL):
            with (Path(scratch) / name).open("wb") as file:
                file.writelines(store.blocks(name))
        yield Path(scratch)


def check_info(checkpoint: Path | str, trained: DataInfo, info: DataInfo) -> None:
    """Raise a ``CheckpointError`` if the model was trained for other classes or image sizes than the data have.

    Data may lack names of hand types: they are no input of a model.
    """
    differing = [
        f"{field.name} {_words(own, given)} in the checkpoint, {_words(given, own)} in the data"
        for field in fields(DataInfo)
        if (own := getattr(trained, field.name)) != (given := getattr(info, field.name))
        and not (field.name == "hand_types" and () in (own, given))
    ]
    if differing:
        raise CheckpointError(
            f"{checkpoint} was trained on other data: {'; '.join(differing)}. Use data with these properties, or "
            "convert them with the settings of the training data."
        )


def _words(value: object, other: object) -> str:
    """Return a fact as text; for a list of names, their number and the first that differs."""
    if not isinstance(value, tuple) or not isinstance(other, tuple):
        return str(value)
    own = [name for index, name in enumerate(value) if index >= len(other) or other[index] != name]
    return f"{len(value)} with '{own[0]}'" if own else f"{len(value)}"
