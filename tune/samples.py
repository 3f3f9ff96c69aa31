"""The stream of trials, and what it and the recorder ask of whoever chooses them: Optuna, or a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

EPOCH = "epoch"
"""A result's word for how many epochs were trained."""


class Chooser(Protocol):
    """Who says what is tried; a ``ray.tune.search.Searcher`` with a memory of its own."""

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
    """The stream of trials; unlike its parent, a restored one may be asked for more than the first time."""

    def __init__(self, searcher: Searcher, *, concurrent: int, trials: int) -> None:
        super().__init__(ConcurrencyLimiter(searcher, max_concurrent=concurrent))
        self.trials = trials

    def go_on_from(self, count: int) -> None:
        """Count ``count`` trials as asked for: a killed driver saved its state some trials ago."""
        self._counter = count

    def set_state(self, state: dict[str, Any]) -> None:
        """Take up the state of a run that ended, was stopped, or was killed."""
        super().set_state({**state, "total_samples": self.trials, "finished": False})
