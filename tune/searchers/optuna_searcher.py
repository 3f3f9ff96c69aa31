"""Ray Tune searcher backed by an Optuna study with correct trial states.

Ray's own ``OptunaSearch`` marks a trial that the scheduler stopped as complete, with the value of its last epoch. It
leaves a trial that ended with NaN running, and forgets its trials on a restore. In contrast, here:

- A stopped trial is PRUNED at its last epoch. A trial that crashed or has a value that is not finite is FAIL.
- The study is a journal on disk under the run's name, written first, so that ``optuna-dashboard`` shows it live and a
  restored search reads everything from it. No other state is saved or restored.
- The next sample depends only on the seed and the study, so a restored search continues as if never interrupted.
- A trial that was asked for but lost with a killed driver is returned again, and no trial stays running forever.
- Optuna knows all objectives and constraint violations. With several objectives it accepts no values of single epochs
  (``Trial.report`` raises) and cannot rank a stopped trial. Such a trial is PRUNED without values, counts as a bad one,
  and keeps the first objective's epochs in a user attribute for the scheduler.
- A configuration that violates a constraint before training is PRUNED without values, and infeasible.
- In a finite space, a sample that was tried or is running is replaced by an untried one, until none is left.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.search.optuna import OptunaSearch

from htt import json_lines
from htt.config import Value
from htt.errors import storage_errors
from htt.evaluation.metric_table import COSTS, METRICS
from tune.experiments.constraints import Constraint, excesses
from tune.experiments.space import LENGTH, Space
from tune.results.run_folder import Trial as Row
from tune.searchers import optuna_study
from tune.searchers.distributions import Code
from tune.searchers.finite_space import Coverage, Fresh
from tune.searchers.generator import EPOCH
from tune.searchers.optuna_journal import mend
from tune.searchers.optuna_study import (
    EARLIER,
    EPOCHS,
    GOES_ON,
    INTERRUPTED,
    TUNE_ID,
    epochs_of,
    open_journal,
    plain_epochs,
    sampler,
)
from tune.searchers.recent_tpe import Recent

NOTED = ("hand_error_mm", "action_accuracy", "object_accuracy", "loss", *(cost.name for cost in COSTS))
"""Metrics stored in the study beside the objectives, for the dashboard only; each is one more line in the journal."""


class Searcher(OptunaSearch):
    """Searcher over a space, with its Optuna study in a journal."""

    def __init__(
        self,
        space: Space,
        journal: Path,
        *,
        study: str,
        objectives: Sequence[str],
        epochs: int,
        constraints: Sequence[Constraint] = (),
        algorithm: str = "tpe",
        seed: int = 0,
        first: Sequence[Mapping[str, Value]] = (),
        earlier: Sequence[Row] = (),
    ) -> None:
        """Open the study, or create it.

        Args:
            space: space to sample from.
            journal: file of the study.
            study: name of the study, unique to the run.
            objectives: metrics to optimize; Tune and its scheduler watch the first.
            epochs: epochs of a trial that is not stopped, unless the space searches them; a trial with fewer is pruned.
            constraints: constraints that a trial must meet.
            algorithm: "tpe" or "random".
            seed: seed of the samples, given the study.
            first: samples to try first, once.
            earlier: finished trials of other runs, with values of this space, that are added to a new study.
        """
        self.codes = {path: Code(domain) for path, domain in space.domains.items()}
        self.objectives, self.watched, self.constraints = objectives, objectives[0], constraints
        self.algorithm, self.seed, self.epochs = algorithm, seed, epochs
        self.coverage = Coverage(self.codes, INTERRUPTED)
        self.used_up = False
        self._numbers: dict[str, int] = {}
        self._recent = Recent()
        self.orphans: list[FrozenTrial] = []
        self._distributions = {path: code.distribution for path, code in self.codes.items()}
        optuna_study.drop_stale_lock(journal)
        json_lines.drop_unfinished_line(journal)
        with storage_errors(journal):
            mend(journal)
        storage = open_journal(journal)
        mode = METRICS[self.watched].mode
        super().__init__(
            self._distributions, self.watched, mode, study_name=study, storage=storage, sampler=self._at(0)
        )
        known = self.study.get_trials(deepcopy=False)
        if not known:
            for row in earlier:
                self.study.add_trial(self._finished(row))
            for sample in first:
                self.study.enqueue_trial(self._encoded(sample))
        self._recall(known)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return cast("optuna.Study", self._ot_study)

    def _setup_study(self, mode: Any) -> None:  # noqa: ARG002 - of the first objective only
        """Create or load the study; Ray calls this when it sets up its searcher."""
        self._ot_study: Any = optuna.create_study(
            storage=self._storage,
            sampler=self._sampler,
            pruner=NopPruner(),
            study_name=self._study_name,
            load_if_exists=True,
            directions=["maximize" if METRICS[name].higher_is_better else "minimize" for name in self.objectives],
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            if self._ot_study.metric_names != list(self.objectives):  # otherwise the dashboard shows "Objective 0"
                self._ot_study.set_metric_names(list(self.objectives))

    def suggest(self, trial_id: str) -> Any:
        """Return the next sample under ``values`` of a trial's Tune configuration, or "FINISHED" if there is none."""
        trial = self._ot_trials.get(trial_id) or self._ask()
        if trial is None:
            self.used_up = True
            return self.FINISHED
        self._ot_trials[trial_id] = trial
        trial.set_user_attr(TUNE_ID, trial_id)
        return {"values": {path: self.codes[path].decode(value) for path, value in trial.params.items()}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store the value of an epoch in the study."""
        value = result.get(self.watched)
        if trial_id in self._ot_trials and trial_id not in self._completed_trials and _finite(value):
            self._note(self._ot_trials[trial_id], float(value), int(result.get(EPOCH, 0)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Set the final state of a trial in the study."""
        if trial_id not in self._ot_trials or trial_id in self._completed_trials:
            return
        trial, found = self._ot_trials[trial_id], result or {}
        values, epoch = [found.get(name) for name in self.objectives], int(found.get(EPOCH, 0))
        self._completed_trials.add(trial_id)
        known = excesses(self.constraints, found)
        refused = epoch == 0 and any(excess > 0 for excess in known.values())
        if error or not (refused or all(map(_finite, values))):
            self._tell(trial, TrialState.FAIL)
            return
        for name, excess in (known if refused else excesses(self.constraints, found, missing=1.0)).items():
            if name not in self._frozen(trial).constraints:
                trial.set_constraint(name, excess)
        if not refused:
            self._note(trial, float(found[self.watched]), epoch)
        for name in NOTED:
            if name not in self.objectives and _finite(found.get(name)):
                trial.set_user_attr(name, float(found[name]))
        if epoch < self._whole(trial.params):
            self._tell(trial, TrialState.PRUNED)
        else:
            self._tell(trial, TrialState.COMPLETE, [float(found[name]) for name in self.objectives])

    def keep_only(self, trials: Mapping[str, Mapping[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
        """Reconcile the study with the trials that a restored run still knows and resumes.

        A trial that is running in the study but unknown to the run is returned again. A trial that is marked as
        interrupted and resumed by the run is set to running again.

        Args:
            trials: {trial: its settings} of the trials that the run resumes.
            ended: {trial: last result} of the trials that ended, even if the run or the study did not record it.
        """
        for trial_id, result in ended.items():
            self.on_trial_complete(trial_id, dict(result))
        known = set(trials)
        for trial_id, trial in list(self._ot_trials.items()):
            frozen = self._frozen(trial)
            if frozen.state == TrialState.RUNNING and trial_id not in known:
                self.orphans.append(frozen)
                del self._ot_trials[trial_id]
            elif frozen.user_attrs.get(INTERRUPTED) and trial_id in known:
                self._reopen(trial_id, frozen)

    def close(self) -> None:
        """Mark running trials as interrupted: PRUNED at their last epoch, or FAIL without one."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(self.study, frozen._trial_id)
            trial.set_user_attr(INTERRUPTED, True)
            self._tell(trial, TrialState.PRUNED if epochs_of(frozen) else TrialState.FAIL)

    def next_name(self) -> str:
        """Return the next trial's name: its number, or "13-2" for example if a killed driver lost it as "13"."""
        known = self.study.get_trials(deepcopy=False)
        if self.orphans:
            before = self.orphans[0].user_attrs.get(TUNE_ID)
            again = f"-{int(before.partition('-')[2] or 1) + 1}" if before else ""
            return f"{self._number_of(self.orphans[0])}{again}"
        place = next((trial.number for trial in known if trial.state == TrialState.WAITING), len(known))
        return str(place - bisect_left(self._again, place) + 1 - self._earlier)

    def number(self, trial_id: str) -> int:
        """Return the trial's number: 1 for the first that was asked for, not counting trials of earlier runs."""
        if trial_id not in self._ot_trials:
            return 0
        if trial_id not in self._numbers:
            self._numbers[trial_id] = self._number_of(self._frozen(self._ot_trials[trial_id]))
        return self._numbers[trial_id]

    def save(self, checkpoint_path: str) -> None:
        """Write an empty state, as the journal holds everything."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing, as the journal was read when the searcher was made."""

    def _ask(self) -> Trial | None:
        """Return the next trial, or None if all configurations were tried."""
        if self.orphans:
            return Trial(self.study, self.orphans.pop(0)._trial_id)
        known = self.study.get_trials(deepcopy=False)
        asked = len(known) - len(self._again)
        self.study.sampler = self._at(asked)
        if self.coverage.size is None:
            return self.study.ask(self._distributions)
        tried = self.coverage.tried(known)
        waiting = any(trial.state == TrialState.WAITING for trial in known)
        if not waiting and len(tried) >= self.coverage.size:
            return None
        inner, seed = self.study.sampler, self._seed_of(asked)
        self.study.sampler = Fresh(inner, self.coverage, self._distributions, tried, seed)
        return self.study.ask(self._distributions)

    def _encoded(self, sample: Mapping[str, Value]) -> dict[str, Any]:
        return {path: self.codes[path].encode(sample[path]) for path in sample}

    def _finished(self, row: Row) -> FrozenTrial:
        """Return a finished trial of another run as a trial of this study."""
        return optuna_study.finished(
            row,
            params=self._encoded(row.values),
            distributions=self._distributions,
            objectives=self.objectives,
            epochs=int(str(row.values.get(LENGTH, self.epochs))),
            constraints=excesses(self.constraints, row.metrics, missing=1.0),
        )

    def _whole(self, params: Mapping[str, Any]) -> int:
        """Return the epochs of a trial that is not stopped: its own if the space searches them."""
        return int(self.codes[LENGTH].decode(params[LENGTH])) if LENGTH in self.codes else self.epochs

    def _at(self, number: int) -> BaseSampler:
        """Return the sampler of the trial with this number, whose random stream is independent of earlier trials."""
        return sampler(self.algorithm, self._seed_of(number), self._recent)

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])

    def _recall(self, trials: Sequence[FrozenTrial]) -> None:
        known = self.study.get_trials(deepcopy=False)
        self._again = [each.number for each in known if GOES_ON in each.user_attrs]
        self._earlier = sum(EARLIER in each.user_attrs for each in known)
        for frozen in trials:
            trial_id = frozen.user_attrs.get(TUNE_ID)
            if frozen.state == TrialState.WAITING:
                continue
            if trial_id is None:
                if frozen.state == TrialState.RUNNING:
                    self.orphans.append(frozen)
                continue
            self._ot_trials[trial_id] = Trial(self.study, frozen._trial_id)
            if frozen.state.is_finished():
                self._completed_trials.add(trial_id)

    def _reopen(self, trial_id: str, frozen: FrozenTrial) -> None:
        self.study.add_trial(optuna_study.running_again(frozen))
        newest = self.study.get_trials(deepcopy=False)[-1]
        self._again.append(newest.number)
        self._ot_trials[trial_id] = Trial(self.study, newest._trial_id)
        self._completed_trials.discard(trial_id)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study._storage.get_trial(trial._trial_id)

    def _number_of(self, frozen: FrozenTrial) -> int:
        """Return ``number`` of a trial; a resumed trial has the number of the interrupted one."""
        first = int(frozen.user_attrs.get(GOES_ON, frozen.number))
        return first - bisect_left(self._again, first) + 1 - self._earlier

    def _note(self, trial: Trial, value: float, epoch: int) -> None:
        known = epochs_of(self._frozen(trial))
        if epoch in known:
            return
        if len(self.objectives) == 1:
            trial.report(value, epoch)
        else:
            trial.set_user_attr(EPOCHS, plain_epochs({**known, epoch: value}))

    def _tell(self, trial: Trial, state: TrialState, values: Sequence[float] | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.study.tell(trial, values, state=state)


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
