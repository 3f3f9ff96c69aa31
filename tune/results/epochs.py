"""Log of reported epochs, written immediately, because Tune saves its own state only seconds later."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from htt import json_lines

Epochs = dict[int, dict[str, float]]
"""{epoch: its metrics}."""


class TrialEpochs:
    """File ``epochs.jsonl``: a line for each epoch of each trial."""

    def __init__(self, file: Path) -> None:
        """Read the existing lines, after dropping an unfinished last line."""
        self._file = file
        self._trials: dict[str, Epochs] = {}
        json_lines.drop_unfinished_line(file)
        for entry in json_lines.read(file):
            if entry.keys() >= {"trial", "epoch", "metrics"}:
                self._trials.setdefault(entry["trial"], {})[entry["epoch"]] = entry["metrics"]

    def add(self, trial_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write an epoch; a repeated epoch replaces the earlier one.

        Raises:
            StorageError: the disk is full.
        """
        self._trials.setdefault(trial_id, {})[epoch] = dict(metrics)
        json_lines.append(self._file, {"trial": trial_id, "epoch": epoch, "metrics": dict(metrics)})

    def of(self, trial_id: str) -> Epochs:
        """Return the epochs of a trial."""
        return self._trials.get(trial_id, {})

    def forget(self, trial_id: str) -> None:
        """Drop a finished trial from memory."""
        self._trials.pop(trial_id, None)
