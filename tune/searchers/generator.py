"""The generator of trials, and the interface that it and the recorder expect of a searcher (Optuna or a list)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from unittest import mock

from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

EPOCH = "epoch"
"""Key of a result that holds the number of epochs trained so far."""


class Chooser(Protocol):
    """Interface of a searcher beyond ``ray.tune.search.Searcher``: names, numbers and reconciliation of trials."""

    def next_name(self) -> str:
        """Return the name of the next trial, used for its folders and its run in TensorBoard."""

    def number(self, trial_id: str) -> int:
        """Return the trial's number; the first trial that was asked for is 1."""

    def keep_only(self, trials: Mapping[str, Mapping[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
        """Reconcile the searcher's state with the trials of a restored run.

        Args:
            trials: {trial: its settings} of the trials that the run resumes.
            ended: {trial: last result} of the trials that ended.
        """

    def close(self) -> None:
        """Mark every trial that is still running as ended."""


class Samples(SearchGenerator):
    """Generator of trials that can ask for more trials after a restore than before, unlike its parent.

    A trial that needs no training is settled here and never reaches Tune.
    """

    def __init__(self, searcher: Searcher, *, concurrent: int, trials: int) -> None:
        super().__init__(ConcurrencyLimiter(searcher, max_concurrent=concurrent))
        self._chooser: Any = searcher
        self.trials = trials
        self.settle: Callable[[str, Mapping[str, Any]], dict[str, Any] | None] = _trained
        """Callback: record a trial that needs no training and return its result, or None if it must be trained."""
        self.crowded = False
        """True if trials are running, which must not wait while others are settled."""

    def next_trial(self) -> Any:
        """Return the next trial that must be trained, or None if there is none now or none at all."""
        while (trial := super().next_trial()) is not None:  # type: ignore[no-untyped-call]
            result = self.settle(trial.trial_id, trial.config["values"])
            if result is None:
                return trial
            self.on_trial_complete(trial.trial_id, result)
            if self.crowded:
                break
        return None

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Any:
        """Return the next trial, named by the searcher instead of by Ray's random id."""
        limiter: Any = self.searcher
        if len(limiter.live_trials) >= limiter.max_concurrent:
            return None  # Tune asks many times for each trial that starts, and a name is looked for among all trials
        name = self._chooser.next_name()
        with mock.patch.object(Trial, "generate_id", return_value=name):
            return super().create_trial_if_possible(experiment_spec)

    @property
    def used_up(self) -> bool:
        """True if no configuration is left to try."""
        return bool(getattr(self._chooser, "used_up", False))

    def end(self) -> None:
        """Ask for no further trial until the run is resumed."""
        self._finished = True

    def go_on_from(self, count: int) -> None:
        """Set the number of trials asked for to ``count``; the state of a killed driver may lack the newest ones."""
        self._counter = count

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of an earlier run, with the current number of trials and not finished."""
        super().set_state({**state, "total_samples": self.trials, "finished": False})


def _trained(_: str, __: Mapping[str, Any]) -> None:
    """Return None: every trial must be trained."""
