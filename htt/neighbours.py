"""The other trainings of this machine, which wait between two of their steps while one measures its latency.

Trials side by side share cores, caches and memory: what one measures beside the others says more of them than of its
model. Every training therefore holds a lock that all of them can share, and lets go of it between two steps. A training
that measures takes it alone. A second lock, taken first, keeps the next steps from passing the one that waits for it.

The system releases the locks of a process that ends, however it ends. Trainings of several workers take no part: one of
their workers, waiting here, would keep the others waiting inside a step.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

WAIT_S = 120.0
"""After so long it is measured anyway: a neighbour that takes no step for minutes is stopped or hangs."""
LOOK_S = 0.005


class Neighbours:
    """This training among the others of the same user on this machine; enter it to take part."""

    def __init__(self, folder: Path) -> None:
        """Take no part yet.

        Args:
            folder: Of this machine, the same for all its trainings; where it cannot be written to, each is by itself.
        """
        self._folder = folder
        self._turn: IO[bytes] | None = None
        self._room: IO[bytes] | None = None

    def __enter__(self) -> Neighbours:
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._turn = (self._folder / ".measuring-turn").open("wb")
            self._room = (self._folder / ".measuring").open("wb")
        self._work()
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._turn, self._room):
            if file:
                fcntl.flock(file, fcntl.LOCK_UN)  # processes that were forked meanwhile have the same lock
                file.close()
        self._turn = self._room = None

    def between_steps(self) -> None:
        """Wait while another training measures."""
        if self._room:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            self._work()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Have all others wait, each before its next step."""
        if not (self._turn and self._room):
            yield
            return
        fcntl.flock(self._room, fcntl.LOCK_UN)
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        until = time.monotonic() + WAIT_S
        while not _taken(self._room) and time.monotonic() < until:
            time.sleep(LOOK_S)
        try:
            yield
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)
            fcntl.flock(self._turn, fcntl.LOCK_UN)
            self._work()

    def _work(self) -> None:
        """Share the lock, after whoever waits to measure."""
        if self._turn and self._room:
            fcntl.flock(self._turn, fcntl.LOCK_SH)
            fcntl.flock(self._room, fcntl.LOCK_SH)
            fcntl.flock(self._turn, fcntl.LOCK_UN)


def _taken(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
