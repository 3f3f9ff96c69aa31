"""What a search's Optuna study keeps: its journal, its samplers, and the notes that make sense of its trials."""

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
from tune.results.json_lines import Journal
from tune.results.run_folder import Trial, value
from tune.searchers.recent_tpe import Recent, RecentTPE

LOCK_S = 2.0
"""So long a journal's lock is somebody's: it is held while a line is written."""
STARTUP_TRIALS = 8
"""Trials drawn at random before TPE has something to learn from."""
TUNE_ID = "trial"
"""The study's note of which of the run's trials an Optuna trial is."""
INTERRUPTED = "interrupted"
"""The study's note that a trial was cut short from outside, and may be gone on with."""
GOES_ON = "goes_on"
"""The study's note that a trial is an interrupted one, gone on with: the number it was asked for with."""
EARLIER = "taken_from"
"""The study's note of which earlier run a trial is from."""
EPOCHS = "epochs"
"""The study's note of the first objective's value at each epoch, where Optuna itself takes none."""


def epochs_of(trial: FrozenTrial) -> dict[int, float]:
    """{epoch: value of the first objective} that a study knows of a trial."""
    return trial.intermediate_values or {int(epoch): value for epoch, value in trial.user_attrs.get(EPOCHS, {}).items()}


def plain_epochs(epochs: Mapping[int, float]) -> dict[str, float]:
    """As a note can keep them."""
    return {str(epoch): value for epoch, value in epochs.items()}


def running_again(interrupted: FrozenTrial) -> FrozenTrial:
    """A trial for the study that goes on with an interrupted one."""
    kept = {name: note for name, note in interrupted.user_attrs.items() if name in (TUNE_ID, EPOCHS, GOES_ON)}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=interrupted.params,
        distributions=interrupted.distributions,
        user_attrs={GOES_ON: interrupted.number, **kept},
        intermediate_values=interrupted.intermediate_values,
    )


def open_journal(path: Path) -> JournalStorage:
    """The storage in a journal file.

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
    """Remove the lock that a killed process left on a journal: Optuna would wait for it for 30 s, and say nothing.

    Only who alone writes the run may do so. A dashboard may hold it too, for a moment.
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
    """Who draws a trial: "tpe" or "random"; samplers of one study share ``recent``."""
    if algorithm == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # Running trials count as bad ones, so that trials side by side are not all the same.
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
    """A trial that ended in another run, as a study would have it of its own.

    Args:
        row: the trial.
        params: what it tried, as the study has it.
        distributions: of the space.
        objectives: of the study, the first one watched.
        epochs: of a trial that nobody stops.
        constraints: {constraint: how far it is broken}.
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
