"""How a training saves itself: after every epoch, and within one where a machine is about to go or time has passed.

A checkpoint within an epoch holds where the epoch stands, so that a training goes on with the next step of it: to the
same weights and numbers, with as many workers as there are then.
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
from htt.training.checkpoint import Progress

LOOK_S = 5.0
"""Between two questions whether a machine is about to go: asking takes as long as a small step."""
OFTEN = 5
"""So many times within that time, workers agree on whether to ask: they wait for one another to."""


@dataclass
class Saving:
    """When a training saves itself within an epoch, and who keeps what it saved. All workers must have one alike."""

    keep: Callable[[Path | None], None]
    """Takes the folder of the checkpoint on the first worker, nothing on the others; called on all of them."""
    noticed: Callable[[], bool]
    """Whether a machine has said, since it was last asked, that it is about to go; the same on every worker."""
    every_s: float | None = None
    """Save that often; none: only when noticed."""
    look_s: float = LOOK_S
    tell: Callable[[int, int, int], None] | None = None
    """Told after each step: the epoch, from 0, how many of its windows are done, and of how many."""
    _looked_s: float = field(default_factory=lambda: time.monotonic())
    _saved_s: float = field(default_factory=lambda: time.monotonic())
    _agreed_s: float = field(default_factory=lambda: time.monotonic())
    _steps: int = 0
    """Since the workers agreed last."""
    _pause: int = 1
    """Steps from then to the next time, the same on every worker."""

    def due(self, group: Group) -> bool:
        """Whether to save now. Every worker must ask after every step; one whose time has come speaks for all."""
        self._steps += 1
        if self._steps < self._pause:
            return False
        now = time.monotonic()
        late = self.every_s is not None and now - self._saved_s >= self.every_s
        took_s = (now - self._agreed_s) * group.first  # by one clock: a sum with zeros is the same number everywhere
        mine = [float(now - self._looked_s >= self.look_s), float(late), took_s]
        look, late, took_s = group.sum(torch.tensor(mine, dtype=torch.float64)).tolist()
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
        """Count from now on."""
        self._saved_s = time.monotonic()


@dataclass
class Saver:
    """Saves one training. The first worker writes; the others only add up with it."""

    folder: Path
    """Of the checkpoint."""
    model: HTT
    optimizer: torch.optim.Optimizer
    config: Config
    info: DataInfo
    group: Group
    scaler: Callable[[], Mapping[str, Any]]
    """The state of the gradients' scaling."""
    history: list[dict[str, float]]
    """The metrics of every epoch so far."""
    within: Saving | None = None
    """None: only after epochs."""

    def epoch(self, clips: pl.DataFrame | None) -> Path | None:
        """Save after an epoch, the last in the history, with what is said of each validation clip."""
        if self.within:
            self.within.saved()
        return self._save(Progress(int(self.history[-1]["epoch"]), extra=self._extra()), self.history[-1], clips)

    def step(self, epoch: int, cursor: int, windows: int, terms: Mapping[str, Mean]) -> None:
        """Save after a step, if it is time to.

        Args:
            epoch: from 0.
            cursor: windows of it that are done.
            windows: that it has.
            terms: the sums of this worker so far.
        """
        if self.within and self.within.tell:
            self.within.tell(epoch, cursor, windows)
        if self.within and self.within.due(self.group):
            sums = over_workers(terms, self.group)
            numbers = {name: [float(mean.total), float(mean.count)] for name, mean in sums.items()}
            progress = Progress(epoch, cursor, extra={**self._extra(), "terms": numbers})
            self.within.keep(self._save(progress, self.history[-1] if self.history else {}, None))

    def _save(self, progress: Progress, metrics: Mapping[str, float], clips: pl.DataFrame | None) -> Path | None:
        if not self.group.first:
            return None
        state = (self.model, self.optimizer, progress, self.config, self.info, metrics, clips)
        return checkpoint.save(self.folder, *state)

    def _extra(self) -> dict[str, Any]:
        return {"scaler": self.scaler(), "epochs": self.history}


def terms_so_far(progress: Progress, group: Group) -> dict[str, Mean]:
    """The sums of the epoch that a checkpoint was saved in, where they are to be added to: on the first worker."""
    numbers: Mapping[str, Sequence[float]] = progress.extra.get("terms", {})
    mine = float(group.first)
    device = group.device
    return {
        name: Mean(torch.tensor(total * mine, device=device), torch.tensor(count * mine, device=device))
        for name, (total, count) in numbers.items()
    }


def over_workers(sums: Mapping[str, Mean], group: Group) -> dict[str, Mean]:
    """The sums of all workers together, the same on each of them."""
    packed = group.sum(torch.stack([torch.stack([mean.total, mean.count]) for mean in sums.values()]).double())
    return {name: Mean(*packed[place]) for place, name in enumerate(sums)}
