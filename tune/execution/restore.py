"""The checkpoint that a restored trial goes on from.

A trial keeps two, and Tune removes an older one as soon as the next is written. What it saves of the trials comes a
moment later: after a kill it may name a checkpoint that is gone, and the trial would fail for it, or one before the
newest, and epochs would be trained again.
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


def mend(trial: TuneTrial, epoch: int) -> None:
    """Have a trial go on from its newest checkpoint that is whole, whatever it remembers; or from none.

    Args:
        trial: that is restored.
        epoch: the last one that is written down of it.
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
    """True for a checkpoint that Tune knew of, or had to know of before what is there, or whose epoch was noted."""
    oldest, newest = min(places), max(places)
    known = number <= remembered or number < newest or number == oldest > 0  # an older one was removed for it
    return known or _epoch(places[number]) <= epoch


def _epoch(checkpoint: ray.tune.Checkpoint) -> float:
    """Return the epoch of a checkpoint that was copied to its end; infinite where that is not known."""
    try:
        return float(checkpoint.get_metadata()[REPORTED]["epoch"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.inf
