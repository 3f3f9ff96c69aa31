"""Tune's controller, extended to drop ended trials whose rows are on disk.

Tune keeps every trial of a run, scans all of them in every step, and saves all of them whenever one writes a
checkpoint, so the n-th trial costs n times as much as the first. A restored run needs only Tune's state of the running
trials; ended trials are in the run's own files.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import ray.tune.tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial


class DroppingController(TuneController):
    """Tune controller that drops an ended trial as soon as ``is_written`` confirms that its row is on disk."""

    def __init__(self, *, is_written: Callable[[str], bool], forgot: Callable[[str], object], **settings: Any) -> None:
        self._is_written, self._forgot = is_written, forgot
        super().__init__(**settings)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state that Tune saves, without the callbacks."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        del state["_is_written"], state["_forgot"]
        return state

    def on_step_end(self) -> None:
        """Drop the ended trials, except the newest: Tune cannot restore a state without trials."""
        super().on_step_end()  # type: ignore[no-untyped-call]
        for trial in [*self._stopped_trials, *self._failed_trials]:
            over = trial not in self._trial_to_actor and trial is not self._trials[-1]
            if over and self._is_written(trial.trial_id):
                self._forget(trial)

    def _forget(self, trial: Trial) -> None:
        self._trials.remove(trial)
        for several in (self._stopped_trials, self._failed_trials, self._live_trials, self._trials_to_cache):
            several.discard(trial)
        self._trial_metadata.pop(trial.trial_id, None)
        with contextlib.suppress(OSError, RuntimeError):  # the folder was never created, or is not empty
            os.rmdir(str(trial.local_path))
        self._forgot(trial.trial_id)


@contextlib.contextmanager
def forgetting(is_written: Callable[[str], bool], forgot: Callable[[str], object]) -> Iterator[None]:
    """Make ``ray.tune.run`` drop trials whose rows are on disk, and call ``forgot`` with the id of each."""
    module: Any = ray.tune.tune  # ``run`` looks up the controller in this module
    usual = module.TuneController
    module.TuneController = functools.partial(DroppingController, is_written=is_written, forgot=forgot)
    try:
        yield
    finally:
        module.TuneController = usual
