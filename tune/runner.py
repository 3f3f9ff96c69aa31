"""A search from question to answer, on the road of every run: what is tried is chosen by Optuna, out of a space."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from htt import console
from tune import question, report, road
from tune.algorithms import Searcher, scheduler
from tune.question import Search
from tune.results import Asked, RunFolder, best_text, ranked, write_text
from tune.road import Outcome, Work
from tune.space import Space
from tune.storage import Storage
from tune.trial import Training, project_training


def run(search: Search, space: Space, training: Training | None = None, show: Console = console.out) -> Outcome:
    """Search, and leave the run's folder.

    Args:
        search: what is asked for.
        space: what to search.
        training: what a trial calls; none: the project's own.
        show: where progress is shown.

    Raises:
        ConfigError, ClusterError, RunError, StorageError: something asked for cannot be; nothing was started.
        TrainingError: not one trial gave a value.
    """
    question.check_options(search)
    space = space.without(search.assignments)
    base = space.start(search.assignments)
    space.check(base)
    name = search.name or f"search-{search.space}-{time.strftime('%Y%m%d-%H%M%S')}"
    limits = search.trials, search.time_budget_s
    work = Searching(search, name, base, search.metric, *limits, search=search, space=space)
    storage, stopped = road.go(work, training or project_training(), show)
    return _finish(search, RunFolder(storage.local), storage, stopped)


@dataclass(frozen=True, kw_only=True)
class Searching(Work):
    """A search that has passed all checks."""

    search: Search
    space: Space

    def check_same(self, asked: Asked) -> None:
        """The same space, base and metric."""
        question.check_same_question(asked, self.search, self.space, self.base)

    def announce(self, concurrent: int) -> str:
        """The space, and when it ends."""
        until = question.limits(self.search)
        return f"Searching space {self.search.space} with {concurrent} trials at once, until {until}."

    def begin(self, storage: Storage) -> None:
        """Write down the question, once."""
        if not self.search.resume:
            record = question.record(self.search, self.space, self.base, self.name)
            RunFolder(storage.local).write_asked(record)

    def searcher(self, folder: RunFolder) -> Searcher:
        """Optuna over the run's study; the base itself is tried first, where the space holds it."""
        first = self.space.of(self.base)
        return Searcher(
            self.space,
            folder.journal,
            study=folder.name,
            metric=self.metric,
            mode=self.mode,
            epochs=self.base.train.epochs,
            algorithm=self.search.algorithm,
            seed=self.search.seed,
            first=[first] if first else [],
        )

    def scheduler(self, searcher: Any) -> TrialScheduler:
        """The one asked for, told of the past."""
        return scheduler(self.search.scheduler, mode=self.mode, epochs=self.base.train.epochs, searcher=searcher)


def _finish(search: Search, folder: RunFolder, storage: Storage, stopped: str | None) -> Outcome:
    """Write the best configuration and the report."""
    trials = folder.trials()
    order = ranked(trials, search.metric)
    if order:
        write_text(folder.best, best_text(folder.asked(), order[0], search.metric, len(trials)))
    road.end(storage, report.write)
    rule = f"At least one trial must end with a value of {search.metric}"
    road.check_some(bool(order), rule, trials, stopped, folder)
    return Outcome(folder, trials, order[0] if order else None, stopped)
