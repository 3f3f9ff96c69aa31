"""Who decides what is tried next, and what is stopped early: Optuna and ASHA, told the truth.

Ray's own ``OptunaSearch`` marks a trial that the scheduler stopped as complete with a value of few epochs, leaves one
that ended with NaN running for ever, and forgets on a restore what it knew. Here

- a stopped trial is PRUNED at its last epoch, a crash or a value that is not finite is FAIL;
- the study is a journal on disk under the run's name, written before anything else, so ``optuna-dashboard`` shows it
  live and a killed search finds in it all it knew; nothing else is saved or restored;
- what is asked next depends on the seed and the study alone, so a restored search goes on as if undisturbed;
- a trial that was asked for but lost with a killed driver is handed out again, and none stays running for ever.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from htt.config import Value
from htt.errors import StorageError, storage_errors
from tune.codes import Code
from tune.samples import EPOCH
from tune.space import Space

STARTUP_TRIALS = 8
"""Trials drawn at random before TPE has something to learn from."""
TUNE_ID = "trial"
"""The study's note of which of the run's trials an Optuna trial is."""
INTERRUPTED = "interrupted"
"""The study's note that a trial was cut short from outside, and may be gone on with."""


class Searcher(OptunaSearch):
    """Optuna behind a space, with its study in a journal."""

    def __init__(
        self,
        space: Space,
        journal: Path,
        *,
        study: str,
        metric: str,
        mode: str,
        epochs: int,
        algorithm: str = "tpe",
        seed: int = 0,
        first: Sequence[Mapping[str, Value]] = (),
    ) -> None:
        """Open the study, or go on with it.

        Args:
            space: what to sample from.
            journal: the study's file.
            study: its name; unique to the run.
            metric: what to select by.
            mode: "min" or "max".
            epochs: of a trial that nobody stops; one with fewer was pruned.
            algorithm: "tpe" or "random".
            seed: determines what is asked, given the study.
            first: samples to try first, once.
        """
        self.codes = {path: Code(domain) for path, domain in space.domains.items()}
        self.algorithm, self.seed, self.epochs, self.watched = algorithm, seed, epochs, metric
        self.orphans: list[FrozenTrial] = []
        distributions = {path: code.distribution for path, code in self.codes.items()}
        storage = open_journal(journal)
        super().__init__(distributions, metric, mode, study_name=study, storage=storage, sampler=self._at(0))
        known = self.study.get_trials(deepcopy=False)
        if not known:
            for sample in first:
                self.study.enqueue_trial({path: self.codes[path].encode(sample[path]) for path in sample})
        self._recall(known)

    @property
    def study(self) -> optuna.Study:
        """The study itself."""
        return cast("optuna.Study", self._ot_study)

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """The next sample, as the part of a trial's Tune configuration called ``values``."""
        trial = self._ot_trials.get(trial_id) or self._ask()
        self._ot_trials[trial_id] = trial
        trial.set_user_attr(TUNE_ID, trial_id)
        return {"values": {path: self.codes[path].decode(value) for path, value in trial.params.items()}}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Note an epoch's value."""
        value = result.get(self.watched)
        if trial_id in self._ot_trials and trial_id not in self._completed_trials and _finite(value):
            self._note(self._ot_trials[trial_id], float(value), int(result.get(EPOCH, 0)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna what became of a trial."""
        if trial_id not in self._ot_trials or trial_id in self._completed_trials:
            return
        trial, value = self._ot_trials[trial_id], (result or {}).get(self.watched)
        self._completed_trials.add(trial_id)
        if error or not _finite(value):
            self._tell(trial, TrialState.FAIL)
            return
        epoch = int((result or {}).get(EPOCH, 0))
        self._note(trial, float(value), epoch)
        if epoch < self.epochs:
            self._tell(trial, TrialState.PRUNED)
        else:
            self._tell(trial, TrialState.COMPLETE, float(value))

    def keep_only(self, trials: Mapping[str, Mapping[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
        """Square the study with the trials that a restored run still knows, and goes on with.

        What the study holds as running and the run forgot is handed out again; what was marked as interrupted and the
        run goes on with runs again in the study too.

        Args:
            trials: {trial: its settings} of what the run goes on with.
            ended: {trial: last result} of those that ended, whether the run or the study noticed it or not.
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
        """Leave nothing running: a trial cut short from outside is pruned at its last epoch, or failed without one."""
        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = Trial(self.study, frozen._trial_id)
            trial.set_user_attr(INTERRUPTED, True)
            self._tell(trial, TrialState.PRUNED if frozen.intermediate_values else TrialState.FAIL)

    def number(self, trial_id: str) -> int:
        """1 for the first trial that was asked for."""
        return int(self._ot_trials[trial_id].number) + 1 if trial_id in self._ot_trials else 0

    def save(self, checkpoint_path: str) -> None:
        """Write next to nothing: the journal has it all."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing: the journal has it all, and was read when the searcher was made."""

    def _ask(self) -> Trial:
        if self.orphans:
            return Trial(self.study, self.orphans.pop(0)._trial_id)
        self.study.sampler = self._at(len(self.study.get_trials(deepcopy=False)))
        return self.study.ask({path: code.distribution for path, code in self.codes.items()})

    def _at(self, number: int) -> BaseSampler:
        """The sampler of the trial with this number: a stream of its own, whatever happened before."""
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        if self.algorithm == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # Running trials count as bad ones, so that trials side by side are not all the same.
            return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, constant_liar=True)

    def _recall(self, trials: Sequence[FrozenTrial]) -> None:
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
        again = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=frozen.params,
            distributions=frozen.distributions,
            user_attrs={TUNE_ID: trial_id},
            intermediate_values=frozen.intermediate_values,
        )
        self.study.add_trial(again)
        newest = self.study.get_trials(deepcopy=False)[-1]
        self._ot_trials[trial_id] = Trial(self.study, newest._trial_id)
        self._completed_trials.discard(trial_id)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def _note(self, trial: Trial, value: float, epoch: int) -> None:
        if epoch not in self._frozen(trial).intermediate_values:
            trial.report(value, epoch)

    def _tell(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.study.tell(trial, value, state=state)


class Asha(ASHAScheduler):
    """Successive halving that a restored search can be told the past of."""

    def recall(self, trials: Iterable[FrozenTrial], sign: float) -> None:
        """Fill the rungs from the epochs the study knows."""
        for frozen in trials:
            past = _Past(frozen.user_attrs.get(TUNE_ID, f"optuna-{frozen.number}"))
            for epoch, value in sorted(frozen.intermediate_values.items()):
                self._brackets[0].on_result(cast("Any", past), epoch, sign * value)


class _Past:
    """As much of a trial as a rung looks at."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def scheduler(name: str, *, mode: str, epochs: int, searcher: Searcher | None = None) -> TrialScheduler:
    """ASHA over epochs, or nobody: {"asha", "none"}; Tune tells it the metric."""
    if name == "none" or epochs < 2:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    asha = Asha(EPOCH, max_t=epochs, grace_period=max(1, epochs // 4), reduction_factor=2, stop_last_trials=True)
    if searcher is not None:
        asha.recall(searcher.study.get_trials(deepcopy=False), 1.0 if mode == "max" else -1.0)
    return asha


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file.

    Raises:
        StorageError: the file cannot be written, or is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with storage_errors(path):
            return JournalStorage(JournalFileBackend(str(path)))
    except (ValueError, KeyError) as error:
        raise StorageError(f"{path} must be a whole Optuna journal; {error}. Move it away to start anew.") from error


def _finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and math.isfinite(value)
