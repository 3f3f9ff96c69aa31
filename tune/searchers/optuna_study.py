"""The Optuna study of a search: its journal, its samplers, and the user attributes of its trials."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from htt import console, json_lines
from htt.errors import StorageError, storage_errors
from htt.evaluation.metric_table import METRICS
from tune.searchers.optuna_journal import Journal, mend
from tune.searchers.recent_tpe import Recent, RecentTPE

LOCK_SUFFIX = ".lock"
"""Suffix of the link that is a journal's lock, as ``optuna.storages.journal.JournalFileSymlinkLock`` names it."""
LOCK_S = 2.0
"""Time to wait for a journal's lock before it counts as stale, s; a lock is held only while a line is written."""
STARTUP_TRIALS = 16
"""Number of random trials before TPE starts to model."""
CANDIDATES = 6
"""Number of samples from which TPE takes the one of the highest expected improvement. With Optuna's 24, late trials
repeat the categorical values of the first good trial (``benchmarks/results/searchers.md``)."""
TUNE_ID = "trial"
"""User attribute: id of the run's trial that the Optuna trial belongs to."""
INTERRUPTED = "interrupted"
"""User attribute: True if the trial was interrupted and may be resumed."""
RESUMES = "goes_on"
"""User attribute: number of the interrupted trial that this trial resumes."""
WARM_START = "taken_from"
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
    kept = {name: note for name, note in interrupted.user_attrs.items() if name in (TUNE_ID, EPOCHS, RESUMES)}
    return optuna.trial.create_trial(
        state=TrialState.RUNNING,
        params=interrupted.params,
        distributions=interrupted.distributions,
        user_attrs={RESUMES: interrupted.number, **kept},
        intermediate_values=interrupted.intermediate_values,
    )


def open_study(storage: JournalStorage, name: str, objectives: Sequence[str]) -> optuna.Study:
    """Return the study of a run in its journal; it is created if it does not exist."""
    study = optuna.create_study(
        storage=storage,
        pruner=NopPruner(),
        study_name=name,
        load_if_exists=True,
        directions=["maximize" if METRICS[each].higher_is_better else "minimize" for each in objectives],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if study.metric_names != list(objectives):  # otherwise the dashboard shows "Objective 0"
            study.set_metric_names(list(objectives))
    return study


def repair(journal: Path) -> None:
    """Remove what a killed process left in a journal; call this only as the single writer of the run."""
    drop_stale_lock(journal)
    json_lines.drop_unfinished_line(journal)
    with storage_errors(journal):
        mend(journal)


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
        raise StorageError(f"Invalid Optuna journal {path}: {error}. Move it away to start a new study.") from error


def drop_stale_lock(path: Path) -> None:
    """Remove a journal lock left by a killed process, which would make Optuna wait silently for 30 s.

    A dashboard may also hold the lock, for a moment.
    """
    lock, ends = Path(f"{path}{LOCK_SUFFIX}"), time.monotonic() + LOCK_S
    while os.path.lexists(lock):
        if time.monotonic() > ends:
            with storage_errors(lock):
                lock.unlink(missing_ok=True)
            console.err.print(f"Removed {lock}: a killed process left it.", markup=False)
            return
        time.sleep(0.05)


def sampler(algorithm: str, seed: int, recent: Recent | None = None) -> BaseSampler:
    """Return the "tpe" or "random" sampler of a trial; samplers of one study share ``recent``."""
    if algorithm == "random":
        return RandomSampler(seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # constant_liar counts running trials as bad ones, so that concurrent trials differ.
        settings: dict[str, Any] = {"n_startup_trials": STARTUP_TRIALS, "n_ei_candidates": CANDIDATES}
        return RecentTPE(recent or Recent(), seed=seed, multivariate=True, constant_liar=True, **settings)
