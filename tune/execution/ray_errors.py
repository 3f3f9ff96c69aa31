"""Every fault of Ray that hits a trial fails that trial, and never the search.

Tune knows two of them, an actor's death and a task's error, and ends the search for all others: a worker that Ray kills
since the machine runs out of memory, a lost object, a result that cannot be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayTaskError


@contextlib.contextmanager
def as_failures_of_trials() -> Iterator[None]:
    """Tell Tune of an error it does not know as of the death of the trial's process, for a ``with`` block."""
    manager: Any = RayActorManager
    usual = manager._actor_task_failed

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if not isinstance(exception, RayActorError | RayTaskError):
            exception = lost(exception)
        usual(self, tracked_actor_task, exception)

    manager._actor_task_failed = failed
    try:
        yield
    finally:
        manager._actor_task_failed = usual


def lost(error: BaseException) -> RayActorError:
    """An error as of an actor's death; it travels through a file."""
    found = RayActorError(error_msg=f"{type(error).__name__}: {error}")
    found.__cause__ = error
    return found
