"""Coordination of trainings on one machine: all others wait between two steps while one measures its latency.

Trials side by side share cores, caches and memory, so a latency measured beside others depends more on them than on the
model. Every training therefore holds a shared lock and releases it between two steps. A training that measures takes
the lock exclusively. A second lock, taken first, keeps the next steps of others from passing a waiting measurement.

The system releases the locks of a process when it ends. Trainings of several workers take no part: one worker that
waits here would keep the others waiting inside a step.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

WAIT_S = 120.0
"""Longest wait before measuring anyway, s: a neighbour without a step for minutes is stopped or hangs."""
LOOK_S = 0.005


class Neighbours:
    """This training among the others of the same user on this machine; enter the context to take part."""

    def __init__(self, folder: Path) -> None:
        """Store the folder of the locks.

        Args:
            folder: folder shared by all trainings of this machine; if it is not writable, each measures without
                waiting.
        """
        self._folder = folder
        self._turn_lock: IO[bytes] | None = None
        self._steps_lock: IO[bytes] | None = None

    def __enter__(self) -> Neighbours:
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._turn_lock = (self._folder / ".measuring-turn").open("wb")
            self._steps_lock = (self._folder / ".measuring").open("wb")
        self._share_steps()
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._turn_lock, self._steps_lock):
            if file:
                fcntl.flock(file, fcntl.LOCK_UN)  # forked processes share the lock
                file.close()
        self._turn_lock = self._steps_lock = None

    def between_steps(self, finish: Callable[[], object] = lambda: None) -> None:
        """Wait while another training measures; ``finish`` is called first and ends the work queued on a device."""
        if self._turn_lock and self._steps_lock:
            if _try(self._turn_lock, fcntl.LOCK_SH):  # nobody measures
                fcntl.flock(self._turn_lock, fcntl.LOCK_UN)
                return
            finish()
            fcntl.flock(self._steps_lock, fcntl.LOCK_UN)
            self._share_steps()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Make all others wait, each before its next step."""
        if not (self._turn_lock and self._steps_lock):
            yield
            return
        fcntl.flock(self._steps_lock, fcntl.LOCK_UN)
        fcntl.flock(self._turn_lock, fcntl.LOCK_EX)
        until = time.monotonic() + WAIT_S
        while not _try(self._steps_lock, fcntl.LOCK_EX) and time.monotonic() < until:
            time.sleep(LOOK_S)
        try:
            yield
        finally:
            fcntl.flock(self._steps_lock, fcntl.LOCK_UN)
            fcntl.flock(self._turn_lock, fcntl.LOCK_UN)
            self._share_steps()

    def _share_steps(self) -> None:
        """Take the shared lock, after any training that waits to measure."""
        if self._turn_lock and self._steps_lock:
            fcntl.flock(self._turn_lock, fcntl.LOCK_SH)
            fcntl.flock(self._steps_lock, fcntl.LOCK_SH)
            fcntl.flock(self._turn_lock, fcntl.LOCK_UN)


def _try(file: IO[bytes], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
