"""Study: an experiment whose trials are listed, not searched.

All variants are trained with one seed before the next seed, each to its last epoch, on the same windows in the same
order (a function of seed and epoch only). Each trial's result for each validation clip is kept. Finished trials of
other runs are reused. A failed trial is repeated when the run is resumed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from cluster.run_folder import RUN_FILE, reserved_name
from htt import console
from htt.config import BackboneConfig, Config
from htt.data.location import preparation_key
from htt.text import plural
from tune.execution import runner
from tune.execution.experiment import UNLIMITED, Experiment
from tune.execution.plan import Plan
from tune.execution.resume import continued
from tune.execution.runner import Outcome
from tune.execution.trainable import TrialFunctions, project_functions
from tune.experiments import spec as specs
from tune.experiments.spec import StudySpec
from tune.reports import report
from tune.results.sync import Storage
from tune.searchers.list_searcher import ListSearcher


def run(
    plan: Plan,
    *,
    training: TrialFunctions | None = None,
    show: Console = console.out,
    time_budget_s: float | None = None,
    search: Path | None = None,
) -> Outcome:
    """Train the trials that a study lacks, and write the report to its folder.

    Args:
        plan: plan of the study.
        training: functions that a trial calls, or None for the project's own.
        show: console for progress.
        time_budget_s: time budget, s, or None for no limit.
        search: folder of the search whose finalists these are, or None.

    Raises:
        ConfigError, ClusterError, DataError, RunError, StorageError: the request is invalid; nothing was started.
        TrainingError: no trial was completed.
    """
    spec = plan.spec
    with contextlib.ExitStack() as stack:
        home = specs.home(spec.storage, plan.runs)
        name = stack.enter_context(reserved_name(spec.name, home, f"study-{spec.study_name}", spec.storage))
        study = StudyExperiment(
            spec=spec,
            storage=Storage(name, plan.runs, spec.storage),
            resume=plan.resume,
            metrics=plan.study.metrics,
            ranks=False,
            max_failures=len(plan.study.variants),  # failures of one variant say nothing about another
            time_budget_s=time_budget_s,
            plan=plan,
            search=search,
        )
        stopped = stack.enter_context(runner.run(study, training or project_functions(), show))
        return _finish(study, stopped)


@dataclass(frozen=True, kw_only=True)
class StudyExperiment(Experiment):
    """A study that has passed all checks."""

    spec: StudySpec
    plan: Plan
    search: Path | None = None
    """Folder of the search whose finalists these are, or None."""

    @property
    def resume_command(self) -> str:
        """Command that resumes the run, or the search that it belongs to."""
        return f"python tune/search.py --resume {self.search}" if self.search else super().resume_command

    @property
    def trials(self) -> int:
        """Total number of trials."""
        return len(self.plan.pairs)

    @property
    def data(self) -> Sequence[Config]:
        """One configuration for each data set that the variants need, of a model that predicts the most."""

        def predicts(config: Config) -> tuple[bool, bool, int]:
            model = config.model
            return model.backbone.reads_images, model.predicts_hand_types, model.forecast.frames

        configs = sorted(self.plan.study.configs(self.base).values(), key=predicts)
        return list({preparation_key(config): config for config in configs}.values())

    @property
    def limit(self) -> int:
        """Unlimited: the list ends by itself, and a repeated trial counts twice."""
        return UNLIMITED

    @property
    def backbones(self) -> Sequence[BackboneConfig]:
        """Image encoders of the variants that are left to train."""
        left = {pair.variant for pair in self.plan.left}
        return [each.model.backbone for name, each in self.plan.study.configs(self.base).items() if name in left]

    def announce(self, concurrent: int) -> str:
        """Return a message with the number of trials."""
        plan = self.plan
        return (
            f"Study {self.spec.study_name}: {len(plan.study.variants)} variants x "
            f"{plural(len(plan.study.seeds), 'seed')}, {plural(len(plan.left), 'training')} to do, "
            f"{concurrent} at once."
        )

    def is_done(self) -> bool:
        """Return True if all trials are complete or can be reused from other runs."""
        done = {trial.pair for trial in self.folder.trials() if trial.state == "complete"} | set(self.plan.shared)
        return all(pair.key in done for pair in self.plan.pairs)

    def write_record(self, incomplete: Sequence[str] = (), baselines: Mapping[str, float] | None = None) -> None:  # noqa: ARG002 - a study has a reference
        """Record the study with its added seeds, and copy the trials reused from other runs."""
        if self.resume:
            record = self.folder.record
            record = record if self.is_done() else continued(record)
            spec = replace(record.study, study=self.spec.study, tuned=self.spec.tuned)
            record = replace(record, spec=spec, parameters={**record.parameters, **self.plan.parameters})
            self._renumber()
        else:
            record = self.new_record(parameters=self.plan.parameters, first_seeds=len(self.plan.study.seeds))
        data, lacking = self.data_keys, dict.fromkeys([*record.incomplete, *incomplete])
        self.folder.write_record(replace(record, data=data, incomplete=list(lacking)))
        self.storage.push(RUN_FILE)
        self._reuse()

    def _renumber(self) -> None:
        """Give the trials their numbers in the list, which tuned variants have moved."""
        numbers, trials = {pair.key: pair.number for pair in self.plan.pairs}, self.folder.trials()
        moved = [replace(each, number=numbers.get(each.pair, each.number)) if each.pair else each for each in trials]
        if moved != trials:
            self.folder.write_trials(sorted(moved, key=lambda trial: trial.number))
            self.storage.push()

    def _reuse(self) -> None:
        """Copy the reused trials: clips first, since a row implies that its clips exist."""
        if not self.plan.shared:
            return
        rows = {trial.pair or trial.id: trial for trial in self.folder.trials()}
        for pair in self.plan.pairs:
            cached = self.plan.shared.get(pair.key)
            if cached is not None:
                cached.copy_clips(self.storage)
                row = cached.row(
                    number=pair.number,
                    variant=pair.variant,
                    seed=pair.seed,
                    values=dict(pair.values),
                    curve=cached.curve(self.metric),
                    finished_s=0.0,
                )
                rows[pair.key] = row.in_place_of(rows.get(pair.key))
        self.folder.write_trials(sorted(rows.values(), key=lambda trial: trial.number))
        self.storage.push()

    def searcher(self) -> ListSearcher:
        """Return the searcher over the list of pairs."""
        return ListSearcher(self.plan.pairs, self.folder.trials(), metric=self.metric, mode=self.mode)

    def scheduler(self, searcher: Any) -> TrialScheduler:  # noqa: ARG002 - signature of ``Experiment``
        """Return a scheduler without early stopping."""
        return FIFOScheduler()  # type: ignore[no-untyped-call]


def _finish(study: StudyExperiment, stopped: str | None) -> Outcome:
    folder = study.folder
    runner.end(study.storage, report.write)
    trials = folder.trials()
    complete = any(trial.state == "complete" for trial in trials)
    runner.check_some(complete, "No training was completed", trials, stopped, folder)
    return Outcome(folder, trials, None, stopped)
