"""Ray Tune searcher backed by an Optuna study with correct trial states.

Ray's own ``OptunaSearch`` marks a trial that the scheduler stopped as complete, with the value of its last epoch. It
leaves a trial that ended with NaN running, and forgets its trials on a restore. In contrast, here:

- A stopped trial is PRUNED at its last epoch. A trial that crashed or has a value that is not finite is FAIL.
- The study is a journal on disk under the run's name, written first, so that ``optuna-dashboard`` shows it live and a
  restored search reads everything from it. No other state is saved or restored.
- The next sample depends only on the seed and the study, so a restored search continues as if never interrupted.
- A trial that was suggested but lost with a killed driver is suggested again, and no trial stays running forever.
- Optuna knows all objectives and constraint violations. With several objectives it accepts no values of single epochs
  (``Trial.report`` raises) and cannot rank a stopped trial. Such a trial is PRUNED without values, counts as a bad one,
  and keeps the first objective's epochs in a user attribute for the scheduler.
- A configuration that violates a constraint before training is PRUNED without values, and infeasible.
- A trial that did not fit into the memory of its device is PRUNED and infeasible, so that TPE avoids such models.
- In a finite space, a sample that was tried or is running is replaced by an untried one, until none is left.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from htt.config import Value
from htt.errors import DeviceMemoryError
from htt.evaluation.metric_table import COSTS, METRICS
from tune.experiments.constraints import Constraint, excesses
from tune.experiments.space import LENGTH, Space
from tune.results.run_folder import Trial as Row
from tune.results.selection import value
from tune.searchers import optuna_study
from tune.searchers.distributions import Code
from tune.searchers.finite_space import Coverage, UntriedSampler
from tune.searchers.generator import EPOCH, ERROR_KIND, TrialSearcher
from tune.searchers.optuna_study import EPOCHS, INTERRUPTED, RESUMES, TUNE_ID, WARM_START, epochs_of, plain_epochs
from tune.searchers.recent_tpe import Recent

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy", "loss", *(cost.name for cost in COSTS))
"""Metrics stored in the study beside the objectives, for the dashboard only; each is one more line in the journal."""

MEMORY = "memory"
"""Constraint that a trial without enough memory violates, in the study only."""


class Searcher(TrialSearcher):
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
        """Open the study, or create it with the trials of earlier runs and the samples to try first.

        Args:
            space: space to sample from.
            journal: file of the study.
            study: name of the study, unique to the run.
            objectives: metrics to optimize; Tune and its scheduler watch the first.
            epochs: epochs of a trial that is not stopped, unless the space searches them; a trial with fewer is pruned.
            constraints: constraints that a trial must meet.
            algorithm: "tpe" or "random".
            seed: seed of the samples, given the study.
            first: samples to try first.
            earlier: finished trials of other runs, with values of this space.
        """
        super().__init__(objectives[0], METRICS[objectives[0]].mode)
        self.codes = {path: Code(domain) for path, domain in space.domains.items()}
        self.objectives, self.constraints = objectives, constraints
        self.algorithm, self.seed, self.epochs = algorithm, seed, epochs
        self.coverage = Coverage(self.codes, INTERRUPTED)
        self.lost: list[FrozenTrial] = []
        """Trials that a killed driver lost, to suggest again."""
        self._recent = Recent()
        self._distributions = {path: code.distribution for path, code in self.codes.items()}
        optuna_study.repair(journal)
        self._storage = optuna_study.open_journal(journal)
        self.study = optuna_study.open_study(self._storage, study, objectives)
        self._study_id = self._storage.get_study_id_from_name(study)
        known = self.study.get_trials(deepcopy=False)
        if not known:
            for row in earlier:
                self.study.add_trial(self._finished(row))
            for sample in first:
                self.study.enqueue_trial(self._encoded(sample))
        self._recall(known)

    def suggest(self, trial_id: str) -> Any:
        """Return the next sample under ``values`` of a trial's Tune configuration, or "FINISHED" if there is none."""
        key = self._keys.get(trial_id)
        key = self._ask() if key is None else key
        if key is None:
            self.used_up = True
            return self.FINISHED
        self._keys[trial_id] = key
        Trial(self.study, key).set_user_attr(TUNE_ID, trial_id)
        params = self._storage.get_trial(key).params
        return {"values": {path: self.codes[path].decode(value) for path, value in params.items()}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Store the value of an epoch in the study."""
        reported, key = result.get(self.objectives[0]), self._running(trial_id)
        if key is not None and _finite(reported):
            self._record_epoch(key, float(reported), int(result.get(EPOCH, 0)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Set the final state of a trial in the study."""
        key, last = self._running(trial_id), result or {}
        if key is None:
            return
        values, epoch = [last.get(name) for name in self.objectives], int(last.get(EPOCH, 0))
        if last.get(ERROR_KIND) == DeviceMemoryError.__name__:
            Trial(self.study, key).set_constraint(MEMORY, 1.0)
            self._tell(key, TrialState.PRUNED)
            return
        violations = excesses(self.constraints, last)
        infeasible = epoch == 0 and any(violation > 0 for violation in violations.values())
        if error or not (infeasible or all(map(_finite, values))):
            self._tell(key, TrialState.FAIL)
            return
        if not infeasible:
            violations = excesses(self.constraints, last, missing=1.0)
            self._record_epoch(key, float(last[self.objectives[0]]), epoch)
        trial, frozen = Trial(self.study, key), self._storage.get_trial(key)
        for name, violation in violations.items():
            if name not in frozen.constraints:
                trial.set_constraint(name, violation)
        for name in SHOWN:
            if name not in self.objectives and _finite(last.get(name)):
                trial.set_user_attr(name, float(last[name]))
        if epoch < self._full_epochs(frozen.params):
            self._tell(key, TrialState.PRUNED)
        else:
            self._tell(key, TrialState.COMPLETE, [float(last[name]) for name in self.objectives])

    def keep_only(self, trials: Mapping[str, Mapping[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
        """Reconcile the study with the trials that a restored run resumes, and with those that ended.

        A trial that is running in the study but unknown to the run is suggested again. A trial that is marked as
        interrupted and resumed by the run is set to running again.
        """
        for trial_id, result in ended.items():
            self.on_trial_complete(trial_id, dict(result))
        for trial_id, key in list(self._keys.items()):
            frozen = self._storage.get_trial(key)
            if frozen.state == TrialState.RUNNING and trial_id not in trials:
                self.lost.append(frozen)
                del self._keys[trial_id]
            elif frozen.user_attrs.get(INTERRUPTED) and trial_id in trials:
                self._reopen(trial_id, frozen)

    def close(self) -> None:
        """Mark running trials as interrupted: PRUNED at their last epoch, or FAIL without one."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            key = self._key(frozen.number)
            Trial(self.study, key).set_user_attr(INTERRUPTED, True)
            self._tell(key, TrialState.PRUNED if epochs_of(frozen) else TrialState.FAIL)

    def next_name(self) -> str:
        """Return the next trial's name: its number, or "13-2" for example if a killed driver lost it as "13"."""
        if self.lost:
            before = self.lost[0].user_attrs.get(TUNE_ID)
            again = f"-{int(before.partition('-')[2] or 1) + 1}" if before else ""
            return f"{self._number_of(self.lost[0])}{again}"
        known = self.study.get_trials(deepcopy=False)
        number = next((trial.number for trial in known if trial.state == TrialState.WAITING), len(known))
        return str(self._number_at(number))

    def number(self, trial_id: str) -> int:
        """Return the trial's number: 1 for the first that was suggested, not counting trials of earlier runs."""
        if trial_id not in self._keys:
            return 0
        if trial_id not in self._numbers:
            self._numbers[trial_id] = self._number_of(self._storage.get_trial(self._keys[trial_id]))
        return self._numbers[trial_id]

    def _ask(self) -> int | None:
        """Return the key of the next trial, or None if all configurations were tried."""
        if self.lost:
            return self._key(self.lost.pop(0).number)
        known = self.study.get_trials(deepcopy=False)
        asked = len(known) - len(self._resumed)
        self.study.sampler = self._sampler(asked)
        if self.coverage.size is not None:
            tried = self.coverage.tried(known)
            waiting = any(trial.state == TrialState.WAITING for trial in known)
            if not waiting and len(tried) >= self.coverage.size:
                return None
            inner, seed = self.study.sampler, self._seed_of(asked)
            self.study.sampler = UntriedSampler(inner, self.coverage, self._distributions, tried, seed)
        return self._key(self.study.ask(self._distributions).number)

    def _encoded(self, sample: Mapping[str, Value]) -> dict[str, Any]:
        return {path: self.codes[path].encode(value) for path, value in sample.items()}

    def _finished(self, row: Row) -> FrozenTrial:
        """Return a finished trial of another run as a trial of this study."""
        epochs = dict(enumerate(row.curve, 1))
        if len(epochs) != row.epochs:
            epochs = {row.epochs: value(row, self.objectives[0])}
        several, complete = len(self.objectives) > 1, row.epochs >= int(str(row.values.get(LENGTH, self.epochs)))
        return create_trial(
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            params=self._encoded(row.values),
            distributions=self._distributions,
            values=[value(row, name) for name in self.objectives] if complete or not several else None,
            intermediate_values={} if several else epochs,
            user_attrs={WARM_START: row.taken_from, **({EPOCHS: plain_epochs(epochs)} if several else {})},
            constraints=excesses(self.constraints, row.metrics, missing=1.0),
        )

    def _full_epochs(self, params: Mapping[str, Any]) -> int:
        """Return the epochs of a trial that is not stopped: its own if the space searches them."""
        return int(self.codes[LENGTH].decode(params[LENGTH])) if LENGTH in self.codes else self.epochs

    def _sampler(self, number: int) -> BaseSampler:
        """Return the sampler of the trial with this number, whose random stream is independent of earlier trials."""
        return optuna_study.sampler(self.algorithm, self._seed_of(number), self._recent)

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])

    def _recall(self, trials: Sequence[FrozenTrial]) -> None:
        """Read the state of an earlier process from the study."""
        known = self.study.get_trials(deepcopy=False)
        self._resumed = [each.number for each in known if RESUMES in each.user_attrs]
        self._earlier = sum(WARM_START in each.user_attrs for each in known)
        self._numbers: dict[str, int] = {}
        self._keys: dict[str, int] = {}
        """{id of the run's trial: key of its newest trial in the study's storage}."""
        for frozen in trials:
            if (trial_id := frozen.user_attrs.get(TUNE_ID)) is not None and frozen.state != TrialState.WAITING:
                self._keys[trial_id] = self._key(frozen.number)
            elif frozen.state == TrialState.RUNNING:
                self.lost.append(frozen)

    def _reopen(self, trial_id: str, frozen: FrozenTrial) -> None:
        self.study.add_trial(optuna_study.running_again(frozen))
        number = len(self.study.get_trials(deepcopy=False)) - 1
        self._keys[trial_id] = self._key(number)
        self._resumed.append(number)

    def _key(self, number: int) -> int:
        """Return the storage's key of the trial with this number in the study."""
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _running(self, trial_id: str) -> int | None:
        """Return the key of a trial, or None if it is unknown or has ended."""
        key = self._keys.get(trial_id)
        return None if key is None or self._storage.get_trial(key).state.is_finished() else key

    def _number_at(self, number: int) -> int:
        """Return the run's number of a trial of the study; trials that resume others have none of their own."""
        return number - bisect_left(self._resumed, number) + 1 - self._earlier

    def _number_of(self, frozen: FrozenTrial) -> int:
        """Return ``number`` of a trial; a resumed trial has the number of the interrupted one."""
        return self._number_at(int(frozen.user_attrs.get(RESUMES, frozen.number)))

    def _record_epoch(self, key: int, value: float, epoch: int) -> None:
        known = epochs_of(self._storage.get_trial(key))
        if epoch in known:
            return
        if len(self.objectives) == 1:
            Trial(self.study, key).report(value, epoch)
        else:
            Trial(self.study, key).set_user_attr(EPOCHS, plain_epochs({**known, epoch: value}))

    def _tell(self, key: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.study.tell(Trial(self.study, key), values, state=state)


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
