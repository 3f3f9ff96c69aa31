"""Schedule of checkpoints: after every epoch, and within an epoch before a preemption or after a time limit.

A checkpoint within an epoch holds the cursor, so a training resumes with the next step of that epoch: to the same
weights and numbers, with any number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch

from htt.config import Config
from htt.group import Group
from htt.info import DataInfo
from htt.losses import Mean
from htt.model.htt import HTT
from htt.training import checkpoint
from htt.training.average import Average
from htt.training.checkpoint import Progress

LOOK_S = 5.0
"""Seconds between two checks for a preemption: one check takes as long as a small step."""
OFTEN = 5
"""Times per ``LOOK_S`` at which the workers agree on whether to check, because agreeing makes them wait for one
another."""


@dataclass
class Saving:
    """Schedule of checkpoints within an epoch, and their receiver. All workers must have the same settings."""

    keep: Callable[[Path | None], None]
    """Callback that gets the checkpoint's folder on the first worker and None on the others; called on all of them."""
    noticed: Callable[[], bool]
    """Callback that returns True once for a newly announced preemption; the same on every worker."""
    every_s: float | None = None
    """Seconds between checkpoints, or None to save only before a preemption."""
    look_s: float = LOOK_S
    on_step: Callable[[int, int, int], None] | None = None
    """Callback after each step with the epoch, from 0, the completed windows and all windows of the epoch."""
    _looked_s: float = field(default_factory=lambda: time.monotonic())
    _saved_s: float = field(default_factory=lambda: time.monotonic())
    _agreed_s: float = field(default_factory=lambda: time.monotonic())
    _steps: int = 0
    """Steps since the workers last agreed."""
    _pause: int = 1
    """Steps between two agreements, the same on every worker."""

    def due(self, group: Group) -> bool:
        """Return whether to save now.

        Every worker must call this after every step; one worker that is due decides for all.
        """
        self._steps += 1
        if self._steps < self._pause:
            return False
        now = time.monotonic()
        late = self.every_s is not None and now - self._saved_s >= self.every_s
        took_s = (now - self._agreed_s) * group.first  # one clock: all others add zeros
        own_flags = [float(now - self._looked_s >= self.look_s), float(late), took_s]
        look, late, took_s = group.sum(torch.tensor(own_flags, dtype=torch.float64)).tolist()
        often_s = (self.look_s if self.every_s is None else min(self.look_s, self.every_s)) / OFTEN
        self._pause = max(1, int(often_s * self._steps / took_s)) if took_s > 0 else 1
        self._agreed_s, self._steps, late = now, 0, late > 0
        if look > 0:
            self._looked_s = now
            late = self.noticed() or late
        if late:
            self.saved()
        return late

    def saved(self) -> None:
        """Restart the time until the next checkpoint."""
        self._saved_s = time.monotonic()


@dataclass
class Saver:
    """Writer of one training's checkpoints. The first worker writes; the others only take part in the sums."""

    folder: Path
    """Folder of the checkpoint."""
    model: HTT
    optimizer: torch.optim.Optimizer
    config: Config
    info: DataInfo
    group: Group
    scaler: Callable[[], Mapping[str, Any]]
    """Callback that returns the state of the gradient scaler."""
    history: list[dict[str, float]]
    """Metrics of every epoch so far."""
    within: Saving | None = None
    """Schedule within epochs, or None to save only after epochs."""
    average: Average | None = None
    """Averaged weights, or None if there are none."""

    def epoch(self, clips: pl.DataFrame | None) -> Path | None:
        """Save after an epoch, the last in the history, with the table of the validation clips."""
        if self.within:
            self.within.saved()
        return self._save(Progress(int(self.history[-1]["epoch"]), extra=self._extra()), self.history[-1], clips)

    def step(
        self, epoch: int, cursor: int, windows: int, terms: Mapping[str, Mean], finish: Callable[[], object]
    ) -> None:
        """Save after a step, if a checkpoint is due.

        Args:
            epoch: epoch, from 0.
            cursor: completed windows of the epoch.
            windows: all windows of the epoch.
            terms: this worker's loss sums so far.
            finish: callback that raises if the weights are not fit to be saved.
        """
        if self.within and self.within.on_step:
            self.within.on_step(epoch, cursor, windows)
        if self.within and self.within.due(self.group):
            finish()
            sums = over_workers(terms, self.group)
            numbers = {name: [float(mean.total), float(mean.count)] for name, mean in sums.items()}
            progress = Progress(epoch, cursor, extra={**self._extra(), "terms": numbers})
            self.within.keep(self._save(progress, self.history[-1] if self.history else {}, None))

    def _save(self, progress: Progress, metrics: Mapping[str, float], clips: pl.DataFrame | None) -> Path | None:
        if not self.group.first:
            return None
        averages = self.average.state() if self.average else None
        state = (self.model, self.optimizer, progress, self.config, self.info, metrics, clips, averages)
        return checkpoint.save(self.folder, *state)

    def _extra(self) -> dict[str, Any]:
        return {"scaler": self.scaler(), "epochs": self.history}


def terms_so_far(progress: Progress, group: Group) -> dict[str, Mean]:
    """Return the loss sums of a checkpoint's unfinished epoch: on the first worker; zeros on the others."""
    numbers: Mapping[str, Sequence[float]] = progress.extra.get("terms", {})
    own_share = float(group.first)
    device = group.device
    return {
        name: Mean(torch.tensor(total * own_share, device=device), torch.tensor(count * own_share, device=device))
        for name, (total, count) in numbers.items()
    }


def over_workers(sums: Mapping[str, Mean], group: Group) -> dict[str, Mean]:
    """Return the sums over all workers, the same on each of them."""
    packed = group.sum(torch.stack([torch.stack([mean.total, mean.count]) for mean in sums.values()]).double())
    return {name: Mean(*packed[index]) for index, name in enumerate(sums)}
