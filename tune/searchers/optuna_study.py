"""The Optuna study of a search: its journal, its samplers, and the user attributes of its trials."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal._file import LOCK_FILE_SUFFIX
from optuna.trial import FrozenTrial, TrialState

from htt import console
from htt.errors import StorageError, storage_errors
from tune.results.run_folder import Trial, value
from tune.searchers.optuna_journal import Journal
from tune.searchers.recent_tpe import Recent, RecentTPE

LOCK_S = 2.0
"""Time to wait for a journal's lock before it counts as stale, s; a lock is held only while a line is written."""
STARTUP_TRIALS = 8
"""Number of random trials before TPE starts to model."""
TUNE_ID = "trial"
"""User attribute: id of the run's trial that the Optuna trial belongs to."""
INTERRUPTED = "interrupted"
"""User attribute: True if the trial was interrupted and may be resumed."""
GOES_ON = "goes_on"
"""User attribute: number of the interrupted trial that this trial resumes."""
EARLIER = "taken_from"
"""User attribute: the earlier run that the trial comes from."""
EPOCHS = "epochs"
"""User attribute: the first objective's value at each epoch, if Optuna itself stores none."""


def epochs_of(trial: FrozenTrial) -> dict[int, float]:
    """Return {epoch: value of the first objective} of a trial in the study."""
    return trial.intermediate_values or {int(epoch): value for epoch, value in trial.user_attrs.get(EPOCHS, {}).items()}


def plain_epochs(epochs: Mapping[int, float]) -> dict[str, float]:
    """Return the epochs with string keys, as a user attribute stores them."""
    return {str(epoch): value for epoch, value in epochs.items()}


def running_again(interrupted: FrozenTrial) -> FrozenTrial:
    """Return a new running trial that resumes an interrupted one."""
    kept = {name: note for name, note in interrupted.user_attrs.items() if name in (TUNE_ID, EPOCHS, GOES_ON)}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=interrupted.params,
        distributions=interrupted.distributions,
        user_attrs={GOES_ON: interrupted.number, **kept},
        intermediate_values=interrupted.intermediate_values,
    )


def open_journal(path: Path) -> JournalStorage:
    """Return the storage in a journal file.

    Raises:
        StorageError: the file cannot be written, or is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with storage_errors(path):
            return JournalStorage(Journal(str(path)))
    except (ValueError, KeyError) as error:
        raise StorageError(f"{path} must be a whole Optuna journal; {error}. Move it away to start anew.") from error


def drop_stale_lock(path: Path) -> None:
    """Remove a journal lock left by a killed process, which would make Optuna wait silently for 30 s.

    Call this only as the single writer of the run. A dashboard may also hold the lock, for a moment.
    """
    lock, ends = Path(f"{path}{LOCK_FILE_SUFFIX}"), time.monotonic() + LOCK_S
    while os.path.lexists(lock):
        if time.monotonic() > ends:
            with storage_errors(lock):
                lock.unlink(missing_ok=True)
            console.err.print(f"{lock} was left by a process that was killed; it is removed.", markup=False)
            return
        time.sleep(0.05)


def sampler(algorithm: str, seed: int, recent: Recent | None = None) -> BaseSampler:
    """Return the "tpe" or "random" sampler of a trial; samplers of one study share ``recent``."""
    if algorithm == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar counts running trials as bad ones, so that concurrent trials differ.
        settings: dict[str, Any] = {"n_startup_trials": STARTUP_TRIALS, "multivariate": True, "constant_liar": True}
        return RecentTPE(recent or Recent(), seed=seed, **settings)


def finished(
    row: Trial,
    *,
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    objectives: Sequence[str],
    epochs: int,
    constraints: Mapping[str, float],
) -> FrozenTrial:
    """Return a trial that ended in another run as a trial of this study.

    Args:
        row: the trial.
        params: its parameters, encoded for the study.
        distributions: distributions of the space.
        objectives: objectives of the study; the first is watched.
        epochs: epochs of a trial that is not stopped.
        constraints: {constraint: amount by which it is violated}.
    """
    last = {row.epochs: value(row, objectives[0])}
    known = dict(enumerate(row.curve, 1)) if len(row.curve) == row.epochs else last
    several, complete = len(objectives) > 1, row.epochs >= epochs
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        params=dict(params),
        distributions=dict(distributions),
        values=[value(row, name) for name in objectives] if complete or not several else None,
        intermediate_values={} if several else known,
        user_attrs={EARLIER: row.taken_from, **({EPOCHS: plain_epochs(known)} if several else {})},
        constraints=dict(constraints),
    )
