"""Search: an experiment whose trials Optuna samples from a space."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from cluster.run_folder import named
from htt import console
from htt.config import BackboneConfig, Config, Value
from htt.data.location import data_key
from htt.data.store.remote import refuse_password
from htt.errors import RunError
from htt.text import plural
from tune.execution import experiment
from tune.execution.experiment import Outcome, Work
from tune.execution.recorder import STUBBORN
from tune.execution.trainable import Training, project_training
from tune.experiments import constraints, spec
from tune.experiments.space import Space
from tune.experiments.spec import Search
from tune.reports import report
from tune.results import run_record, selection
from tune.results.run_folder import Asked, RunFolder, Trial, write_text
from tune.results.sync import Storage, locate
from tune.searchers import warm_start
from tune.searchers.known import Known
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.scheduler import scheduler
from tune.searchers.warm_start import Question


def run(search: Search, space: Space, training: Training | None = None, show: Console = console.out) -> Outcome:
    """Run a search, and write its results to the run's folder.

    Args:
        search: options of the search.
        space: space to search.
        training: training functions that a trial calls, or None for the project's own.
        show: console for progress.

    Raises:
        ConfigError, ClusterError, RunError, StorageError: the request is invalid; nothing was started.
        TrainingError: no trial gave a value.
    """
    spec.check_options(search)
    space = space.without(search.assignments)
    base = space.start(search.assignments)
    refuse_password(base.data.root or "", "data.root")
    space.check(base)
    bounds = [*search.constraints, *constraints.bounds(search.pick)]
    spec.check_comparable([*search.goals, *(bound.metric for bound in bounds)], space.domains)
    points = warm_start.points(search.points, space, base)
    found = [] if search.resume else _earlier(search, space, base, show)
    limits = search.trials, search.time_budget_s
    with contextlib.ExitStack() as stack:
        name = stack.enter_context(named(search.name, search.home, f"search-{search.space}", search.storage))
        work = Searching(
            search, name, base, search.metric, *limits, search=search, space=space, points=points, earlier=found
        )
        storage, stopped = stack.enter_context(experiment.go(work, training or project_training(), show))
        if stopped == "nothing left":
            count, place = len(RunFolder(storage.local).trials()), report.typed(storage.local)
            show.print(f"All {count} trials of {name} have ended; for more: --resume {place} --trials NUMBER")
        if stopped == "used up":
            show.print(f"Every configuration of space {search.space} has been tried.")
        if stopped == "constraints":
            show.print(
                f"The constraints refused {STUBBORN} configurations in a row; loosen one, or search a smaller space, "
                "in another run."
            )
        return _finish(search, RunFolder(storage.local), storage, stopped)


def _earlier(search: Search, space: Space, base: Config, show: Console) -> list[Trial]:
    """Return the fitting trials of the runs given by --warm-start, without duplicates."""
    asked = Question(space, base, search.goals, search.constraints, search.share_any)
    found = [warm_start.earlier(locate(name, search.storage, search.runs), asked) for name in search.warm_start]
    for one in found:
        show.print(str(one), markup=False)
    return list({trial.taken_from: trial for one in found for trial in one.trials}.values())


@dataclass(frozen=True, kw_only=True)
class Searching(Work):
    """A search that has passed all checks."""

    search: Search
    space: Space
    points: Sequence[Mapping[str, Value]] = ()
    """Samples to try first."""
    earlier: Sequence[Trial] = ()
    """Finished trials of other runs for a warm start; empty for a resumed run, whose study has them."""

    @property
    def backbones(self) -> Sequence[BackboneConfig]:
        """Image encoders of the base and of the space."""
        return self.space.backbones(self.base)

    @property
    def data(self) -> Sequence[Config]:
        """One configuration for each data set that the space can select."""
        return list({data_key(config): config for config in self.space.of_data(self.base)}.values())

    def check_same(self, asked: Asked) -> None:
        """Raise a ``RunError`` if the run to be resumed has another space, base, metric, objectives or constraints."""
        run_record.check_same_question(asked, self.search, self.space, self.base)

    def announce(self, concurrent: int) -> str:
        """Return a message with the space and the limits of the search."""
        until = spec.limits(self.search)
        return f"Searching space {self.search.space} with {plural(concurrent, 'trial')} at once, until {until}."

    @property
    def needed(self) -> list[str]:
        """The objectives."""
        return list(self.search.goals)

    @property
    def named(self) -> list[str]:
        """The objectives, and the metrics of the bounds."""
        rule = self.search.pick if self.search.objectives else constraints.KNEE
        bounds = [*self.search.constraints, *constraints.bounds(rule)]
        return list(dict.fromkeys([*self.needed, *(each.metric for each in bounds)]))

    def is_done(self, folder: RunFolder) -> bool:
        """Return True if a run to be resumed has all its trials; a stopped trial does not count."""
        ended = sum(trial.state != "stopped" for trial in folder.trials()) if self.search.resume else 0
        return bool(self.trials) and ended >= int(self.trials or 0)

    def begin(self, storage: Storage, incomplete: Sequence[str] = ()) -> None:
        """Fill the study with the warm-start trials, and then record the search; only then has the run started."""
        folder = RunFolder(storage.local)
        if self.search.resume:
            folder.write_asked(run_record.gone_on(folder.asked()))
            storage.push("asked.yaml")
            return
        folder.journal.unlink(missing_ok=True)
        if self.earlier:
            folder.write_earlier(self.earlier)
        self.searcher(folder).close()
        asked = run_record.record(self.search, self.space, self.base, self.name, self.points)
        folder.write_asked(replace(asked, data=self.data_keys, incomplete=list(incomplete)))

    def searcher(self, folder: RunFolder) -> Searcher:
        """Return the Optuna searcher over the run's study.

        The points are tried first, then the best of the warm-start trials, whose results are reused, so that the search
        ends with nothing worse than it starts with. The base itself is tried last, if the space contains it.
        """
        complete = [trial for trial in self.earlier if trial.state == "complete"]
        known = [trial.values for trial in selection.pareto_front(complete, self.search.goals)]
        wanted = [*self.points, *known, self.space.of(self.base)]
        first = [sample for place, sample in enumerate(wanted) if sample and sample not in wanted[:place]]
        return Searcher(
            self.space,
            folder.journal,
            study=folder.name,
            objectives=self.search.goals,
            epochs=self.base.train.epochs,
            constraints=self.search.constraints,
            algorithm=self.search.algorithm,
            seed=self.search.seed,
            first=first,
            earlier=self.earlier,
        )

    def known(self, folder: RunFolder) -> Known:
        """Return the index of trials that need no training, from this run and its warm-start runs."""
        trials = [*folder.earlier(), *folder.trials()]
        return Known(self.base, self.search.constraints, self.search.goals, trials)

    def scheduler(self, searcher: Any) -> TrialScheduler:
        """Return the requested scheduler, with the past epochs of the study."""
        epochs = self.space.longest(self.base)
        return scheduler(self.search.scheduler, mode=self.mode, epochs=epochs, searcher=searcher)


def _finish(search: Search, folder: RunFolder, storage: Storage, stopped: str | None) -> Outcome:
    """Write the best configuration and the report."""
    trials, asked = folder.trials(), folder.asked()
    best = selection.best_trial(asked, trials)
    if best:
        rule = selection.rule_text(asked.pick, asked.objectives) if asked.objectives else ""
        write_text(folder.best, selection.best_text(asked, best, search.metric, len(trials), rule))
    experiment.end(storage, report.write)
    if best is None and stopped not in (*experiment.CUT, "failures"):
        _check_kept(search, asked, trials, folder)
    rule = f"At least one trial must end with a value of {' and '.join(search.goals)}"
    experiment.check_some(best is not None, rule, trials, stopped, folder)
    return Outcome(folder, trials, best, stopped)


def _check_kept(search: Search, asked: Asked, trials: Sequence[Trial], folder: RunFolder) -> None:
    """Raise a ``RunError`` if trials have values but violated bounds leave none of them as the best."""
    found = selection.pareto_front(trials, search.goals)
    broken = found or [trial for trial in trials if trial.breaks]
    bounds = constraints.parse([asked.pick]) if found else search.constraints
    if not broken:
        return

    def beyond(trial: Trial) -> tuple[float, int]:
        excesses = constraints.excesses(bounds, trial.metrics).values()
        return sum(excess for excess in excesses if excess > 0), trial.number

    nearest = min(broken, key=beyond)
    what = f"--pick {asked.pick} must hold for a trial on the front" if found else "A trial must keep the constraints"
    said = constraints.broken(bounds, nearest.metrics) if found else nearest.breaks
    raise RunError(
        f"{what}; none of {len(broken) if found else len(trials)} does. The nearest is trial {nearest.number}: {said}. "
        f"Begin another run with a looser bound, or go on: --resume {folder.name}. The report is {folder.report}."
    )
