"""What the workers of a final training tell whoever started it, beside the metrics of every epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

TELL_S = 5.0


@dataclass(frozen=True)
class Start:
    """Said when workers begin, and whenever others go on after them."""

    epochs: int
    """Done."""
    cursor: int
    """Windows of the next one that are done too."""
    workers: int
    note: str = ""
    """What its reader should know: that the newest checkpoint was damaged, say."""


@dataclass(frozen=True)
class Step:
    """How far a training is within an epoch."""

    epoch: int
    """The one it is in, from 1."""
    done: int
    """Of its windows."""
    of: int


@dataclass
class Telling:
    """Called after every step, it tells of one now and then."""

    tell: Callable[[Step], None]
    every_s: float = TELL_S
    _told_s: float = field(default_factory=lambda: time.monotonic())

    def __call__(self, epoch: int, done: int, of: int) -> None:
        """``done`` of the windows of an epoch, counted from 0, are done."""
        now = time.monotonic()
        if now - self._told_s >= self.every_s:
            self._told_s = now
            self.tell(Step(epoch + 1, min(done, of), of))
