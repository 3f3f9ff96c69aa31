"""Search: an experiment whose trials Optuna samples from a space."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from cluster.run_folder import RUN_FILE, reserved_name
from htt import console
from htt.config import BackboneConfig, Config, override
from htt.data.location import preparation_key
from htt.data.store.remote import refuse_password
from htt.errors import HTTError, RunError, storage_errors
from htt.files import write_text
from htt.heartbeat import LostRayError
from htt.text import plural
from tune.execution import finalists, runner
from tune.execution.experiment import Experiment
from tune.execution.recorder import MAX_INFEASIBLE
from tune.execution.resume import continued
from tune.execution.runner import Outcome
from tune.execution.trainable import TrialFunctions, project_functions
from tune.experiments import checks, constraints
from tune.experiments import spec as specs
from tune.experiments.constraints import Constraint
from tune.experiments.space import Space
from tune.experiments.spec import RUNS, SearchSpec
from tune.reports import commands, report
from tune.results import finalists as results
from tune.results import selection
from tune.results.cache import TrialCache
from tune.results.run_folder import RunFolder, Trial
from tune.results.sync import Storage, locate
from tune.searchers import warm_start
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.scheduler import scheduler


def run(
    spec: SearchSpec,
    *,
    runs: Path = RUNS,
    resume: bool = False,
    training: TrialFunctions | None = None,
    show: Console = console.out,
) -> Outcome:
    """Run a search, and write its results to the run's folder.

    Args:
        spec: definition of the search, with domains and base.
        runs: folder of all runs on this machine, unless ``spec.storage`` is a local folder.
        resume: True to resume the run ``spec.name``.
        training: functions that a trial calls, or None for the project's own.
        show: console for progress.

    Raises:
        ConfigError, ClusterError, RunError, StorageError: the request is invalid; nothing was started.
        TrainingError: no trial gave a value.
    """
    checks.check_search(spec)
    base = spec.config()
    refuse_password(base.data.root or "", "data.root")
    Space(spec.domains).check(base)
    bounds = [*spec.constraints, *constraints.bounds(spec.pick)]
    checks.check_comparable([*spec.all_objectives, *(bound.metric for bound in bounds)], spec.domains)
    earlier = [] if resume else _earlier(spec, runs, show)
    with contextlib.ExitStack() as stack:
        home = specs.home(spec.storage, runs)
        name = stack.enter_context(reserved_name(spec.name, home, f"search-{spec.space}", spec.storage))
        search = SearchExperiment(
            spec=spec,
            storage=Storage(name, runs, spec.storage),
            resume=resume,
            time_budget_s=spec.stage_one_s,
            earlier=earlier,
        )
        before_s = search.ended_s
        stopped = stack.enter_context(runner.run(search, training or project_functions(), show))
        if stopped == "nothing left" and not search.finalists_left:
            count, place = len(search.folder.trials()), commands.quoted(search.folder.path)
            show.print(f"All {count} trials of {name} have ended. Add more with: --resume {place} --trials NUMBER")
        if stopped == "used up":
            show.print(f"Every configuration of space {spec.space} has been tried.")
        if stopped == "constraints":
            show.print(
                f"{MAX_INFEASIBLE} configurations in a row were infeasible. Start another run with a looser constraint "
                "or a smaller space."
            )
        stopped_two = None
        if spec.finalists and stopped not in (*runner.CUT, "failures"):
            stopped_two = _train_finalists(search, search.ended_s - before_s, training, show)
        return _finish(search, stopped_two if stopped_two in runner.CUT else stopped)


def _train_finalists(
    search: SearchExperiment, used_s: float, training: TrialFunctions | None, show: Console
) -> str | None:
    """Train the finalists after ``used_s`` seconds of the search; return why they ended early, or None."""
    spec, budget_s = search.spec, search.spec.time_budget_s
    _write_best(search)  # a killed stage two loses nothing of stage one
    left_s = None if budget_s is None else max(budget_s - used_s, specs.FINALIST_SHARE * budget_s)
    try:
        return finalists.run(spec, search.folder, search.storage, left_s, training, show)
    except KeyboardInterrupt:
        return "interrupted"
    except LostRayError:
        raise
    except HTTError as error:
        console.print_message("warning:", f"The finalists are not complete: {error}")
        return None


def _earlier(spec: SearchSpec, runs: Path, show: Console) -> list[Trial]:
    """Return the fitting trials of the runs given by --warm-start, without duplicates."""
    earlier = [warm_start.earlier(locate(name, spec.storage, runs), spec) for name in spec.warm_start]
    for each in earlier:
        show.print(str(each), markup=False)
    return list({trial.taken_from: trial for each in earlier for trial in each.trials}.values())


@dataclass(frozen=True, kw_only=True)
class SearchExperiment(Experiment):
    """A search that has passed the checks of its spec."""

    spec: SearchSpec
    earlier: Sequence[Trial] = ()
    """Finished trials of other runs for a warm start; empty for a resumed run, whose study has them."""

    @cached_property
    def space(self) -> Space:
        """Searched domains."""
        return Space(self.spec.domains)

    @property
    def trials(self) -> int | None:
        """Total number of trials, or None for as many as the time budget allows."""
        return self.spec.trials

    @property
    def backbones(self) -> Sequence[BackboneConfig]:
        """Image encoders of the base and of the space."""
        return self.space.backbones(self.base)

    @property
    def data(self) -> Sequence[Config]:
        """One configuration for each data set that the space can select."""
        return list({preparation_key(config): config for config in self.space.of_data(self.base)}.values())

    def announce(self, concurrent: int) -> str:
        """Return a message with the space and the limits of the search."""
        until = specs.limits(self.spec)
        return f"Searching space {self.spec.space} with {plural(concurrent, 'trial')} at once, until {until}."

    @property
    def needed(self) -> list[str]:
        """The objectives."""
        return list(self.spec.all_objectives)

    @property
    def named(self) -> list[str]:
        """The objectives, and the metrics of the bounds."""
        rule = self.spec.pick if self.spec.objectives else constraints.KNEE
        bounds = [*self.spec.constraints, *constraints.bounds(rule)]
        return list(dict.fromkeys([*self.needed, *(each.metric for each in bounds)]))

    @property
    def ended_s(self) -> float:
        """Time of the search until its last trial ended, s."""
        return max((trial.finished_s for trial in self.folder.trials()), default=0.0)

    @cached_property
    def finalists_left(self) -> bool:
        """True if a run to be resumed was interrupted while it trained its finalists."""
        same = self.resume and self.spec.trials == self.folder.record.search.trials
        return bool(self.spec.finalists) and same and results.is_under_way(self.folder)

    def is_done(self) -> bool:
        """Return True if a run to be resumed has all its trials, or only its finalists are left.

        A stopped trial does not count.
        """
        ended = sum(trial.state != "stopped" for trial in self.folder.trials()) if self.resume else 0
        return self.finalists_left or (self.trials is not None and ended >= self.trials)

    def write_record(self, incomplete: Sequence[str] = (), baselines: Mapping[str, float] | None = None) -> None:
        """Fill the study with the warm-start trials, and then record the search; only then has the run started."""
        folder = self.folder
        if self.resume:
            record = continued(folder.record)
            kept = {name: getattr(self.spec, name) for name in SearchSpec.FINALISTS}
            exact = replace(record.search, domains=self.spec.domains, **kept)  # old domains are rounded text
            folder.write_record(replace(record, spec=exact))
            self.storage.push(RUN_FILE)
            return
        folder.journal.unlink(missing_ok=True)
        if self.earlier:
            folder.write_earlier(self.earlier)
        self.searcher().close()
        folder.write_record(self.new_record(incomplete=list(incomplete), baselines=dict(baselines or {})))

    def searcher(self) -> Searcher:
        """Return the Optuna searcher over the run's study.

        The points are tried first, then the best of the warm-start trials, whose results are reused, so that the search
        ends with nothing worse than it starts with. Then follows the base itself, if the space contains it; it is never
        stopped early.
        """
        complete = [trial for trial in self.earlier if trial.state == "complete"]
        known = [trial.values for trial in selection.pareto_front(complete, self.spec.all_objectives)]
        wanted = [*self.spec.points, *known, self.space.of(self.base)]
        first = [sample for place, sample in enumerate(wanted) if sample and sample not in wanted[:place]]
        return Searcher(
            self.space,
            self.folder.journal,
            study=self.folder.name,
            objectives=self.spec.all_objectives,
            epochs=self.base.train.epochs,
            constraints=self.spec.constraints,
            algorithm=self.spec.algorithm,
            seed=self.spec.seed,
            first=first,
            earlier=self.earlier,
        )

    @property
    def constraints(self) -> Sequence[Constraint]:
        """Constraints that a trial must meet."""
        return self.spec.constraints

    def cache(self) -> TrialCache:
        """Return the complete trials of this run and of its warm-start runs."""
        cache = TrialCache([*self.spec.all_objectives, *(each.metric for each in self.constraints)])
        for trial in (*self.folder.earlier(), *self.folder.trials()):
            cache.add(trial, self.folder)
        return cache

    def scheduler(self, searcher: Any) -> TrialScheduler:
        """Return the requested scheduler, with the past epochs of the study."""
        epochs = self.space.longest(self.base)
        return scheduler(self.spec.scheduler, epochs=epochs, searcher=searcher, kept=self.space.of(self.base))


def _write_best(search: SearchExperiment) -> Trial | None:
    """Write the best configuration of both stages, and return its trial, or None if there is none."""
    folder, spec = search.folder, search.spec
    trials, record = folder.trials(), folder.record
    finals = results.read(folder, trials)
    best = finals.best if finals else selection.best_trial(record, trials)
    if best:
        rule = selection.rule_text(spec.pick, spec.objectives) if spec.objectives else ""
        write_text(folder.best, selection.best_text(record, best, spec.metric, len(trials), rule))
    return best


def _finish(search: SearchExperiment, stopped: str | None) -> Outcome:
    """Write the best configuration, the picture of its predictions and the report."""
    folder, spec = search.folder, search.spec
    best, trials = _write_best(search), folder.trials()
    if stopped != "nothing left":
        _draw_predictions(search, best if stopped not in runner.CUT else None)
    runner.end(search.storage, report.write)
    if best is None and stopped not in (*runner.CUT, "failures"):
        _check_kept(spec, trials, folder)
    rule = f"No trial ended with a value of {' and '.join(spec.all_objectives)}"
    runner.check_some(best is not None, rule, trials, stopped, folder)
    return Outcome(folder, trials, best, stopped)


def _draw_predictions(search: SearchExperiment, best: Trial | None) -> None:
    """Draw the predictions of the best trial, if its checkpoint is on this machine; remove an older picture."""
    folder = search.folder
    with storage_errors(folder.predictions):
        folder.predictions.unlink(missing_ok=True)
    checkpoint = commands.newest_checkpoint(folder, best) if best else None
    if best is None or checkpoint is None:
        return
    from tune.execution import predictions  # imported late: it imports torch, which a stand-in training does without

    try:
        predictions.draw(override(search.base, best.values), checkpoint, folder.predictions)
    except HTTError as error:
        console.err.print(f"No picture of predictions: {error}", markup=False)


def _check_kept(spec: SearchSpec, trials: Sequence[Trial], folder: RunFolder) -> None:
    """Raise a ``RunError`` if trials have values but violated bounds leave none of them as the best."""
    front = selection.pareto_front(trials, spec.all_objectives)
    broken = front or [trial for trial in trials if trial.violation]
    bounds = constraints.parse([spec.pick]) if front else spec.constraints
    if not broken:
        return

    def beyond(trial: Trial) -> tuple[float, int]:
        excesses = constraints.excesses(bounds, trial.metrics).values()
        return sum(excess for excess in excesses if excess > 0), trial.number

    nearest = min(broken, key=beyond)
    what = f"on the Pareto front satisfies --pick {spec.pick}" if front else "satisfies the constraints"
    violation = constraints.broken(bounds, nearest.metrics) if front else nearest.violation
    raise RunError(
        f"No trial {what}, out of {len(broken) if front else len(trials)}. The nearest is trial {nearest.number}: "
        f"{violation}. Start a run with a looser bound, or resume this one: --resume {folder.name}. The report is "
        f"{folder.report}."
    )
