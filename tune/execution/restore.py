"""Selection of the checkpoint that a restored trial resumes from.

A trial keeps two checkpoints, and Tune removes an older one as soon as the next is written, but saves its state of the
trials a moment later. After a kill the state may name a checkpoint that was removed, which would fail the trial, or one
before the newest, which would train epochs again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import ray.tune
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Trial as TuneTrial

from htt.training.older import KEPT, listed
from tune.execution.trainable import REPORTED

NAME = re.compile(r"checkpoint_(\d+)")


def use_newest_checkpoint(trial: TuneTrial, epoch: int) -> None:
    """Make a trial resume from its newest whole checkpoint, or from the start if none is, whatever Tune's state says.

    Args:
        trial: the restored trial.
        epoch: the last epoch recorded for it.
    """
    storage: Any = trial.storage
    metadata: Any = trial.run_metadata
    system, folder = storage.storage_filesystem, storage.trial_fs_path
    numbers = {int(match[1]): name for name in listed(folder, system) if (match := NAME.fullmatch(name))}
    places = {number: ray.tune.Checkpoint(f"{folder}/{name}", system) for number, name in numbers.items()}
    known = NAME.fullmatch(trial.checkpoint.path.rpartition("/")[2]) if trial.checkpoint else None
    remembered = int(known[1]) if known else -1
    whole = [number for number in sorted(places) if _is_whole(number, places, remembered, epoch)]
    if whole[-1:] == [remembered] or not (known or places):
        return
    metadata.checkpoint_manager = _CheckpointManager(metadata.checkpoint_manager.checkpoint_config)
    for number in whole[-KEPT:]:
        storage.current_checkpoint_index = number - 1
        trial.on_checkpoint(_TrainingResult(checkpoint=places[number], metrics={}))


def _is_whole(number: int, places: Mapping[int, ray.tune.Checkpoint], remembered: int, epoch: int) -> bool:
    """Return True if Tune knew the checkpoint, other files imply that it is whole, or its epoch was recorded."""
    oldest, newest = min(places), max(places)
    known = number <= remembered or number < newest or number == oldest > 0  # an older one was removed for it
    return known or _epoch(places[number]) <= epoch


def _epoch(checkpoint: ray.tune.Checkpoint) -> float:
    """Return the epoch of a checkpoint that was copied completely, or infinity if it is unknown."""
    try:
        return float(checkpoint.get_metadata()[REPORTED]["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
