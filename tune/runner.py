"""A search from question to answer: check, connect, prepare the data, try, write down.

Everything a user can get wrong is found before a machine is asked for anything. What is finished is on disk before the
next trial starts, so a killed driver, a Ctrl-C or an ended budget is followed by ``--resume`` and loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune
from rich.console import Console

import htt.errors
from cluster import capacity, connect
from htt import console
from htt.config import Config
from htt.errors import HTTError, TrainingError, UserError
from htt.training.metric_table import METRICS
from tune import progress, question, report
from tune.algorithms import Samples, Searcher, scheduler
from tune.question import Search
from tune.recorder import Recorder
from tune.results import RunFolder, Trial, best_text, ranked, write_text
from tune.space import Space
from tune.storage import Storage
from tune.trial import Job, Training, parameters, project_training, train_name, trainable

UNLIMITED = 1_000_000
"""Trials, where only a time budget ends a search."""
RETRIES = 1
"""How often a crashed trial goes on from its checkpoint; a NaN or a wrong file is no crash and not retried."""
STATE = "tune"
"""The folder of Tune's own state, below the run's storage."""

TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # trials.parquet is the log
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the recorder's is
    "TUNE_GLOBAL_CHECKPOINT_S": "2",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


@dataclass(frozen=True)
class Outcome:
    """What a search leaves."""

    folder: RunFolder
    trials: list[Trial]
    best: Trial | None
    stopped: str | None
    """Why it ended before all trials did: "interrupted", "time budget", or nothing."""


def run(search: Search, space: Space, training: Training | None = None, show: Console = console.out) -> Outcome:
    """Search, and leave the run's folder.

    Args:
        search: what is asked for.
        space: what to search.
        training: what a trial calls; none: the project's own.
        show: where progress is shown.

    Raises:
        ConfigError, ClusterError, RunError, StorageError: something asked for cannot be; nothing was started.
        TrainingError: not one trial gave a value.
    """
    question.check_options(search)
    space = space.without(search.assignments)
    base = space.start(search.assignments)
    space.check(base)
    name = search.name or f"search-{search.space}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage(name, search.runs, search.storage)
    question.check_name_is_free(search, storage)
    storage.check()
    with storage.lock():
        try:
            folder = RunFolder(storage.local)
            if search.resume:
                storage.pull()
                question.check_same_question(folder.asked(), search, space, base)
            show.print(f"Starting on {search.address or 'the cores of this machine'} ...")
            with connect.connect(search.address):
                job = _job(search, base, storage)
                concurrent = capacity.require(job.worker_resources, job.workers)
                concurrent = min(concurrent, search.max_concurrent or concurrent)
                until = question.limits(search)
                show.print(f"Searching space {search.space} with {concurrent} trials at once, until {until}.")
                training = training or project_training()
                training.prepare(base)
                if not search.resume:
                    folder.write_asked(question.record(search, space, base, name))
                plan = _Plan(search, space, base, storage, job, training, concurrent)
                stopped = _try(plan, show)
        finally:
            storage.discard_if_empty()
    return _finish(search, storage, stopped)


@dataclass(frozen=True)
class _Plan:
    """A search that has passed all checks."""

    search: Search
    space: Space
    base: Config
    storage: Storage
    job: Job
    training: Training
    concurrent: int

    @property
    def mode(self) -> str:
        """The direction in Tune's words."""
        return "max" if METRICS[self.search.metric].higher_is_better else "min"

    @property
    def epochs(self) -> int:
        """Of a whole trial."""
        return self.base.train.epochs

    @property
    def trials(self) -> int:
        """At most."""
        return self.search.trials or UNLIMITED


def _try(plan: _Plan, show: Console) -> str | None:
    """Run Tune to its end; gives why it ended early."""
    search, folder = plan.search, RunFolder(plan.storage.local)
    searcher = _searcher(plan, folder)
    samples = Samples(searcher, concurrent=plan.concurrent, trials=plan.trials)
    display = progress.Display(show, trials=search.trials, epochs=plan.epochs, metric=search.metric)
    recorder = Recorder(
        folder,
        plan.storage,
        plan.base,
        searcher,
        samples,
        metric=search.metric,
        time_budget_s=search.time_budget_s,
        tick=display.tick,
        ended=display.on_end,
    )
    with _quiet(), display:
        try:
            _tune(plan, searcher, samples, recorder)
        finally:
            recorder.release()
            recorder.interrupted()
            searcher.close()
    if recorder.fault is not None:
        raise recorder.fault
    return recorder.stop_reason


def _searcher(plan: _Plan, folder: RunFolder) -> Searcher:
    """The searcher over the run's study; the base itself is tried first, where the space holds it."""
    first = plan.space.of(plan.base)
    return Searcher(
        plan.space,
        folder.journal,
        study=folder.name,
        metric=plan.search.metric,
        mode=plan.mode,
        epochs=plan.epochs,
        algorithm=plan.search.algorithm,
        seed=plan.search.seed,
        first=[first] if first else [],
    )


def _tune(plan: _Plan, searcher: Searcher, samples: Samples, recorder: Recorder) -> None:
    """``Tuner`` would restore the searcher and callbacks it pickled; ``run`` takes fresh ones, which know the study."""
    again = plan.search.resume and _can_restore(plan.storage)
    ray.tune.run(
        trainable(plan.job, plan.training),
        name=STATE,
        storage_path=plan.storage.uri,
        metric=plan.search.metric,
        mode=plan.mode,
        config=parameters(plan.job),
        num_samples=plan.trials,
        search_alg=samples,
        scheduler=scheduler(plan.search.scheduler, mode=plan.mode, epochs=plan.epochs, searcher=searcher),
        checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=1),
        max_failures=RETRIES,
        reuse_actors=plan.job.alone,  # a stopped Ray Train trial must take its process with it, or the next one waits
        raise_on_failed_trial=False,
        callbacks=[recorder],
        trial_dirname_creator=_trial_id,
        trial_name_creator=_trial_id,
        resume_config=_resume_config() if again else None,
        verbose=0,
    )


def _finish(search: Search, storage: Storage, stopped: str | None) -> Outcome:
    """Write the best configuration and the report, and remove what nobody will read."""
    folder = RunFolder(storage.local)
    trials = folder.trials()
    order = ranked(trials, search.metric)
    _remove_checkpoints(storage, trials)
    if order:
        write_text(folder.best, best_text(folder.asked(), order[0], search.metric, len(trials)))
    report.write(folder)
    storage.push()
    if stopped == "failures" or (not order and stopped != "interrupted"):
        errors = list(dict.fromkeys(trial.error for trial in trials if trial.error)) or [
            "no epoch ended in time; --resume gives it more"
        ]
        lines = "\n".join(f"  - {error}" for error in errors[:5])
        raise _kind(errors)(
            f"At least one trial must end with a value of {search.metric}; of {len(trials)} none did:\n{lines}\n"
            f"The run is kept in {folder.path}."
        )
    return Outcome(folder, trials, order[0] if order else None, stopped)


def _kind(errors: list[str]) -> type[HTTError]:
    """A mistake the user can mend, where every trial failed for one; else a training that went wrong."""
    kinds = [getattr(htt.errors, error.partition(":")[0], TrainingError) for error in errors]
    return UserError if all(issubclass(kind, UserError) for kind in kinds) else TrainingError


def _job(search: Search, base: Config, storage: Storage) -> Job:
    return Job(
        base=base.model_dump(mode="json"),
        metric=search.metric,
        folder=None if storage.remote else f"{storage.uri}/trials",
        storage=f"{storage.uri}/train",
        workers=search.workers_per_trial,
        cpus_per_worker=search.cpus_per_worker,
        gpus_per_trial=search.gpus_per_trial,
    )


def _can_restore(storage: Storage) -> bool:
    """Whether Tune saved at least one trial; before that there is nothing to restore, and the study knows the rest."""
    states = [name for name in storage.files(STATE) if name.startswith("experiment_state-")]
    if not states or storage.remote:
        return bool(states)
    try:
        return bool(json.loads(Path(storage.uri, STATE, max(states)).read_text(encoding="utf-8"))["trial_data"])
    except (ValueError, KeyError):
        return False


def _resume_config() -> Any:
    from ray.tune.tune_config import ResumeConfig

    kinds = ResumeConfig.ResumeType
    settings: dict[str, Any] = {"unfinished": kinds.RESUME, "errored": kinds.SKIP, "finished": kinds.SKIP}
    return ResumeConfig(**settings)


def _remove_checkpoints(storage: Storage, trials: list[Trial]) -> None:
    """Checkpoints of trials that were stopped or failed; a complete one keeps its newest, one cut short goes on."""
    for trial in trials:
        if trial.state in ("pruned", "failed"):
            inside = storage.folders(f"{STATE}/{trial.id}")
            places = [f"{STATE}/{trial.id}/{name}" for name in inside if name.startswith("checkpoint_")]
            storage.remove(*places, f"train/{train_name(trial.id)}", f"trials/{trial.id}/checkpoints")


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray's tables, warnings and deprecations stay off the screen; the display says what there is to say."""
    before = {name: os.environ.get(name) for name in TUNE_SETTINGS}
    os.environ.update(TUNE_SETTINGS)
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        for name, old in before.items():
            os.environ.pop(name, None)
            if old is not None:
                os.environ[name] = old
