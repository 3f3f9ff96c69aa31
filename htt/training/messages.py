"""Progress messages that the workers of a final training send to the driver, beside the metrics of every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

SEND_EVERY_S = 5.0


@dataclass(frozen=True)
class Start:
    """Message sent when workers start, and again when they are replaced."""

    epochs: int
    """Completed epochs."""
    cursor: int
    """Completed windows of the next epoch."""
    workers: int
    note: str = ""
    """Note for the user, for example that the newest checkpoint was damaged."""


@dataclass(frozen=True)
class Step:
    """Progress of a training within an epoch."""

    epoch: int
    """Current epoch, from 1."""
    done: int
    """Completed windows of the epoch."""
    of: int


@dataclass
class StepReporter:
    """Callback for every step that sends a ``Step`` at most every ``every_s`` seconds."""

    send: Callable[[Step], None]
    every_s: float = SEND_EVERY_S
    _sent_s: float = field(default_factory=lambda: time.monotonic())

    def __call__(self, epoch: int, done: int, of: int) -> None:
        """Send the progress if it is due: ``done`` windows of ``of`` in ``epoch``, counted from 0."""
        now = time.monotonic()
        if now - self._sent_s >= self.every_s:
            self._sent_s = now
            self.send(Step(epoch + 1, min(done, of), of))
