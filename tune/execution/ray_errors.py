"""Conversion of Ray errors, so that an error of one trial fails that trial and not the whole search.

Tune handles only the death of an actor and the error of a task. It ends the search for any other error, such as a
worker that Ray kills because the machine runs out of memory, a lost object, or a result that cannot be read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.exceptions import RayActorError, RayTaskError


@contextlib.contextmanager
def as_failures_of_trials() -> Iterator[None]:
    """Report errors that Tune does not handle as deaths of the trial's actor, within a ``with`` block."""
    manager: Any = RayActorManager
    usual = manager._actor_task_failed

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if not isinstance(exception, RayActorError | RayTaskError):
            exception = as_actor_death(exception)
        usual(self, tracked_actor_task, exception)

    manager._actor_task_failed = failed
    try:
        yield
    finally:
        manager._actor_task_failed = usual


def as_actor_death(error: BaseException) -> RayActorError:
    """Return the error as an actor's death, with its name in the message, because Tune passes errors through a file."""
    death = RayActorError(error_msg=f"{type(error).__name__}: {error}")
    death.__cause__ = error
    return death
