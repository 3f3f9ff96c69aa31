"""The stream of trials, and what it and the recorder ask of whoever chooses them: Optuna, or a list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol
from unittest import mock

from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

EPOCH = "epoch"
"""A result's word for how many epochs were trained."""


class Chooser(Protocol):
    """Who says what is tried; a ``ray.tune.search.Searcher`` with a memory of its own."""

    def next_name(self) -> str:
        """The name of the trial that is asked for next: of its folders, and of its run in TensorBoard."""

    def number(self, trial_id: str) -> int:
        """1 for the first trial that was asked for."""

    def keep_only(self, trials: Mapping[str, Mapping[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
        """Square what it remembers with what a restored run goes on with.

        Args:
            trials: {trial: its settings} of what the run goes on with.
            ended: {trial: last result} of those that ended.
        """

    def close(self) -> None:
        """Leave nothing running."""


class Samples(SearchGenerator):
    """The stream of trials; unlike its parent, a restored one may be asked for more than the first time.

    A trial that needs no training is settled here, and never seen by Tune.
    """

    def __init__(self, searcher: Searcher, *, concurrent: int, trials: int) -> None:
        super().__init__(ConcurrencyLimiter(searcher, max_concurrent=concurrent))
        self._chooser: Any = searcher
        self.trials = trials
        self.settle: Callable[[str, Mapping[str, Any]], dict[str, Any] | None] = _trained
        """Writes down a trial that needs no training and gives its result; none: it must be trained."""
        self.crowded = False
        """Whether trials are running, that must not wait while others are settled."""

    def next_trial(self) -> Any:
        """The next trial that must be trained; none: there is none, for now or at all."""
        while (trial := super().next_trial()) is not None:  # type: ignore[no-untyped-call]
            result = self.settle(trial.trial_id, trial.config["values"])
            if result is None:
                return trial
            self.on_trial_complete(trial.trial_id, result)
            if self.crowded:
                break
        return None

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Any:
        """The next trial, with the name that its chooser gives it; Ray would draw one."""
        name = self._chooser.next_name()
        with mock.patch.object(Trial, "generate_id", return_value=name):
            return super().create_trial_if_possible(experiment_spec)

    @property
    def used_up(self) -> bool:
        """Whether nothing is left to be tried."""
        return bool(getattr(self._chooser, "used_up", False))

    def end(self) -> None:
        """Ask for no further trial, until the run is resumed."""
        self._finished = True

    def go_on_from(self, count: int) -> None:
        """Count ``count`` trials as asked for: a killed driver saved its state some trials ago."""
        self._counter = count

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up the state of a run that ended, was stopped, or was killed."""
        super().set_state({**state, "total_samples": self.trials, "finished": False})


def _trained(_: str, __: Mapping[str, Any]) -> None:
    """Every trial must be trained."""
