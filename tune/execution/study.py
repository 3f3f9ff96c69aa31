"""A study from question to answer, on the road of every run: what is trained is listed, not searched.

All variants are trained with a seed before the next seed begins, each to its last epoch, on the same windows in the
same order (a function of seed and epoch alone). What each training says of each validation clip is kept. A training
that another run has finished is taken over; one that failed is tried again when the run is resumed.
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
from tune.searchers.list_searcher import Listed


def run(
    ablation: Ablation,
    plan: Plan | None = None,
    training: Training | None = None,
    show: Console = console.out,
) -> Outcome:
    """Train what a study lacks, and leave its folder with the report.

    Args:
        ablation: what is asked for.
        plan: of it, if it was made.
        training: what a trial calls; none: the project's own.
        show: where progress is shown.

    Raises:
        ConfigError, ClusterError, DataError, RunError, StorageError: something asked for cannot be; nothing was
            started.
        TrainingError: not one training came to its end.
    """
    with contextlib.ExitStack() as stack:
        stem = f"study-{ablation.study_name}"
        name = stack.enter_context(named(ablation.name, ablation.home, stem, ablation.storage))
        plan = plan or plans.plan(ablation, RunFolder(ablation.home / name) if ablation.resume else None)
        ablation, metrics = plan.ablation, plan.study.metrics
        limits = len(plan.pairs), None
        hopeless = len(plan.study.variants)  # what one fails for says nothing of another
        work = Studying(
            ablation, name, plan.base, metrics[0], *limits, metrics, ranks=False, hopeless=hopeless, plan=plan
        )
        storage, stopped = stack.enter_context(experiment.go(work, training or project_training(), show))
        return _finish(storage, stopped)


@dataclass(frozen=True, kw_only=True)
class Studying(Work):
    """A study that has passed all checks."""

    plan: Plan

    @property
    def data(self) -> Sequence[Config]:
        """Those that the variants need."""
        return plans.data(self.plan.study, self.base)

    @property
    def limit(self) -> int:
        """The list ends by itself; a training that is tried again counts twice."""
        return UNLIMITED

    @property
    def backbones(self) -> Sequence[BackboneConfig]:
        """Those of the variants that are left to train."""
        study, left = self.plan.study, {pair.variant for pair in self.plan.left}
        return [study.config(self.base, name, study.seeds[0]).model.backbone for name in study.variants if name in left]

    def check_same(self, asked: Asked) -> None:
        """A study carries its question with it."""
        run_record.check_kind(asked, "study")

    def announce(self, concurrent: int) -> str:
        """How many trainings there will be."""
        plan = self.plan
        return (
            f"Study {plan.ablation.study_name}: {len(plan.study.variants)} variants x "
            f"{plural(len(plan.study.seeds), 'seed')}, {plural(len(plan.left), 'training')} to do, "
            f"{concurrent} at once."
        )

    def is_done(self, folder: RunFolder) -> bool:
        """Whether all is there, or can be taken over."""
        done = {trial.pair for trial in folder.trials() if trial.state == "complete"} | set(self.plan.shared)
        return all(pair.key in done for pair in self.plan.pairs)

    def begin(self, storage: Storage, incomplete: Sequence[str] = ()) -> None:
        """Write down the question, with the seeds that were added, and take over what others have trained."""
        folder = RunFolder(storage.local)
        asked = folder.asked() if self.run.resume else record(self.plan, self.name)
        if self.run.resume and not self.is_done(folder):
            asked = run_record.gone_on(asked)
        study, count = self.plan.study.plain(), len(self.plan.pairs)
        lacking = list(dict.fromkeys([*asked.incomplete, *incomplete]))
        folder.write_asked(replace(asked, study=study, trials=count, data=self.data_keys, incomplete=lacking))
        storage.push("asked.yaml")
        _take_over(self.plan, storage, self.metric)

    def searcher(self, folder: RunFolder) -> Listed:
        """The list."""
        return Listed(self.plan.pairs, folder.trials(), metric=self.metric, mode=self.mode)

    def scheduler(self, searcher: Any) -> TrialScheduler:  # noqa: ARG002 - as a search has it
        """Nobody stops a training of a study."""
        return FIFOScheduler()  # type: ignore[no-untyped-call]

    def keep(self, storage: Storage, trial_id: str) -> None:
        """Keep what a training says of each clip: its newest checkpoint has it."""
        for place in (f"{STATE}/{trial_id}", f"train/{train_name(trial_id)}"):
            kept = [name for name in storage.folders(place) if name.startswith("checkpoint_")]
            name = f"{CLIPS}/{trial_id}.parquet"
            if kept and storage.fetch(f"{place}/{max(kept)}/{CLIPS_FILE}", storage.local / name):
                storage.push(name)


def record(plan: Plan, name: str) -> Asked:
    """The question, complete enough to ask it again."""
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
    """Copy the clips first: a row says that its training is there."""
    if not plan.shared:
        return
    folder = RunFolder(storage.local)
    rows = {trial.pair or trial.id: trial for trial in folder.trials()}
    for pair in plan.pairs:
        found = plan.shared.get(pair.key)
        if found is not None:
            found.copy(storage)
            row = found.row(pair.number, pair.variant, pair.seed, dict(pair.values), metric)
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
