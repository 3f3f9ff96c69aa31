"""Loading of trained models for given data: our checkpoints, or the weights HTT's authors released."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from htt.config import Config
from htt.errors import CheckpointError
from htt.info import DataInfo
from htt.model.htt import HTT
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
    _check_info(checkpoint, record.info, info)
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


def _check_info(checkpoint: Path, trained: DataInfo, info: DataInfo) -> None:
    """Raise ``CheckpointError`` if the model was trained for other classes or image sizes than the data have."""
    differing = [
        f"{field.name} {_words(own, given)} in the checkpoint, {_words(given, own)} in the data"
        for field in fields(DataInfo)
        if (own := getattr(trained, field.name)) != (given := getattr(info, field.name))
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
