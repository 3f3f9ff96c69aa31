"""Study: an experiment whose trials are listed, not searched.

All variants are trained with one seed before the next seed, each to its last epoch, on the same windows in the same
order (a function of seed and epoch only). Each trial's result for each validation clip is kept. Finished trials of
other runs are reused. A failed trial is repeated when the run is resumed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from rich.console import Console

from cluster.run_folder import named
from htt import console
from htt.config import BackboneConfig, Config
from htt.text import plural
from htt.training.checkpoint import CLIPS as CLIPS_FILE
from tune.execution import experiment
from tune.execution import plan as plans
from tune.execution.experiment import STATE, UNLIMITED, Outcome, Work
from tune.execution.plan import Ablation, Plan
from tune.execution.trainable import Training, project_training, train_name
from tune.reports import report
from tune.results import run_record
from tune.results.run_folder import Asked, RunFolder
from tune.results.sync import CLIPS, Storage
from tune.searchers.list_searcher import ListSearcher


def run(
    ablation: Ablation,
    plan: Plan | None = None,
    training: Training | None = None,
    show: Console = console.out,
) -> Outcome:
    """Train the trials that a study lacks, and write the report to its folder.

    Args:
        ablation: options of the study's run.
        plan: plan of the study, or None to make one.
        training: training functions that a trial calls, or None for the project's own.
        show: console for progress.

    Raises:
        ConfigError, ClusterError, DataError, RunError, StorageError: the request is invalid; nothing was started.
        TrainingError: no trial was completed.
    """
    with contextlib.ExitStack() as stack:
        stem = f"study-{ablation.study_name}"
        name = stack.enter_context(named(ablation.name, ablation.home, stem, ablation.storage))
        plan = plan or plans.plan(ablation, RunFolder(ablation.home / name) if ablation.resume else None)
        ablation, metrics = plan.ablation, plan.study.metrics
        limits = len(plan.pairs), None
        max_failures = len(plan.study.variants)  # failures of one variant say nothing about another
        work = Studying(
            ablation, name, plan.base, metrics[0], *limits, metrics, ranks=False, max_failures=max_failures, plan=plan
        )
        storage, stopped = stack.enter_context(experiment.go(work, training or project_training(), show))
        return _finish(storage, stopped)


@dataclass(frozen=True, kw_only=True)
class Studying(Work):
    """A study that has passed all checks."""

    plan: Plan

    @property
    def data(self) -> Sequence[Config]:
        """One configuration for each data set that the variants need."""
        return plans.data(self.plan.study, self.base)

    @property
    def limit(self) -> int:
        """Unlimited: the list ends by itself, and a repeated trial counts twice."""
        return UNLIMITED

    @property
    def backbones(self) -> Sequence[BackboneConfig]:
        """Image encoders of the variants that are left to train."""
        study, left = self.plan.study, {pair.variant for pair in self.plan.left}
        return [study.config(self.base, name, study.seeds[0]).model.backbone for name in study.variants if name in left]

    def check_same(self, asked: Asked) -> None:
        """Raise a ``RunError`` if the run to be resumed is not a study; its definition is read from its record."""
        run_record.check_kind(asked, "study")

    def announce(self, concurrent: int) -> str:
        """Return a message with the number of trials."""
        plan = self.plan
        return (
            f"Study {plan.ablation.study_name}: {len(plan.study.variants)} variants x "
            f"{plural(len(plan.study.seeds), 'seed')}, {plural(len(plan.left), 'training')} to do, "
            f"{concurrent} at once."
        )

    def is_done(self, folder: RunFolder) -> bool:
        """Return True if all trials are complete or can be reused from other runs."""
        done = {trial.pair for trial in folder.trials() if trial.state == "complete"} | set(self.plan.shared)
        return all(pair.key in done for pair in self.plan.pairs)

    def begin(self, storage: Storage, incomplete: Sequence[str] = ()) -> None:
        """Record the study with its added seeds, and copy the trials reused from other runs."""
        folder = RunFolder(storage.local)
        asked = folder.asked() if self.run.resume else record(self.plan, self.name)
        if self.run.resume and not self.is_done(folder):
            asked = run_record.gone_on(asked)
        study, count = self.plan.study.plain(), len(self.plan.pairs)
        lacking = list(dict.fromkeys([*asked.incomplete, *incomplete]))
        folder.write_asked(replace(asked, study=study, trials=count, data=self.data_keys, incomplete=lacking))
        storage.push("asked.yaml")
        _take_over(self.plan, storage, self.metric)

    def searcher(self, folder: RunFolder) -> ListSearcher:
        """Return the searcher over the list of pairs."""
        return ListSearcher(self.plan.pairs, folder.trials(), metric=self.metric, mode=self.mode)

    def scheduler(self, searcher: Any) -> TrialScheduler:  # noqa: ARG002 - signature of ``Work``
        """Return a scheduler without early stopping."""
        return FIFOScheduler()  # type: ignore[no-untyped-call]

    def keep(self, storage: Storage, trial_id: str) -> None:
        """Store a trial's results for each clip, which are in its newest checkpoint."""
        for place in (f"{STATE}/{trial_id}", f"train/{train_name(trial_id)}"):
            kept = [name for name in storage.folders(place) if name.startswith("checkpoint_")]
            name = f"{CLIPS}/{trial_id}.parquet"
            if kept and storage.fetch(f"{place}/{max(kept)}/{CLIPS_FILE}", storage.local / name):
                storage.push(name)


def record(plan: Plan, name: str) -> Asked:
    """Return the record of the study, complete enough to repeat it."""
    ablation = plan.ablation
    return Asked(
        **run_record.record_of(ablation, plan.base, name),
        kind="study",
        study_name=ablation.study_name,
        study=plan.study.plain(),
        parameters=plan.parameters,
        first_seeds=len(plan.study.seeds),
        space="",
        domains={},
        metric=plan.study.metrics[0],
        seed=0,
        trials=len(plan.pairs),
        time_budget_s=None,
        algorithm="listed",
        scheduler="none",
        assignments=dict(ablation.assignments),
    )


def _take_over(plan: Plan, storage: Storage, metric: str) -> None:
    """Copy the reused trials: clips first, since a row implies that its clips exist."""
    if not plan.shared:
        return
    folder = RunFolder(storage.local)
    rows = {trial.pair or trial.id: trial for trial in folder.trials()}
    for pair in plan.pairs:
        found = plan.shared.get(pair.key)
        if found is not None:
            found.copy_clips(storage)
            row = found.row(
                number=pair.number,
                variant=pair.variant,
                seed=pair.seed,
                values=dict(pair.values),
                curve=found.curve(metric),
                finished_s=0.0,
            )
            rows[pair.key] = row.in_place_of(rows.get(pair.key))
    folder.write_trials(sorted(rows.values(), key=lambda trial: trial.number))
    storage.push()


def _finish(storage: Storage, stopped: str | None) -> Outcome:
    folder = RunFolder(storage.local)
    experiment.end(storage, report.write)
    trials = folder.trials()
    complete = any(trial.state == "complete" for trial in trials)
    experiment.check_some(complete, "At least one training must come to its end", trials, stopped, folder)
    return Outcome(folder, trials, None, stopped)
