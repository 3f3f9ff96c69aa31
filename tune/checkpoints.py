"""The checkpoint that a restored trial goes on from.

A trial keeps one, and Tune removes the one before as soon as the next is written. What it saves of the trials comes a
moment later: after a kill it may name a checkpoint that is gone, and the trial would fail for it.
"""

from __future__ import annotations

import re
from typing import Any

import ray.tune
from pyarrow import fs
from ray.train._internal.checkpoint_manager import _CheckpointManager
from ray.train._internal.session import _TrainingResult
from ray.tune.experiment import Trial as TuneTrial

NAME = re.compile(r"checkpoint_(\d+)")


def mend(trial: TuneTrial) -> None:
    """Have a trial go on from the checkpoint that took the place of the one it remembers; or from none."""
    storage: Any = trial.storage
    metadata: Any = trial.run_metadata
    system, folder = storage.storage_filesystem, storage.trial_fs_path
    found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    names = {int(match[1]): entry.base_name for entry in found if (match := NAME.fullmatch(entry.base_name))}
    known = NAME.fullmatch(trial.checkpoint.path.rpartition("/")[2]) if trial.checkpoint else None
    remembered = int(known[1]) if known else -1
    if remembered in names or not (known or names):
        return
    metadata.checkpoint_manager = _CheckpointManager(metadata.checkpoint_manager.checkpoint_config)
    whole = _first_whole(set(names), remembered)
    if whole is not None:
        storage.current_checkpoint_index = whole - 1
        checkpoint = ray.tune.Checkpoint(f"{folder}/{names[whole]}", system)
        trial.on_checkpoint(_TrainingResult(checkpoint=checkpoint, metrics={}))


def _first_whole(there: set[int], remembered: int) -> int | None:
    """The number of a checkpoint that is complete: one before it is gone, or one after it was begun."""
    whole = [each for each in there if each > remembered and (each > 0 or 1 in there)]
    return min(whole, default=None)
