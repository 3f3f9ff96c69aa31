"""The road of every run, from a question to trials that are written down: check, connect, prepare the data, try.

A search and a study take it alike; ``Work`` says what differs. Everything a user can get wrong is found before a
machine is asked for anything. What is finished is on disk before the next trial starts, so a killed driver, a Ctrl-C or
an ended budget is followed by ``--resume`` and loses nothing.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from rich.console import Console

from cluster import connect, resources, revision
from cluster import storage as stores
from cluster.preflight import check
from htt import console, driver_log, heartbeat
from htt.config import BackboneConfig, Config
from htt.data.location import data_key
from htt.errors import HTTError, TrainingError, UserError, of_name
from htt.evaluation.metric_table import METRICS
from htt.heartbeat import LostRayError
from htt.training.older import KEPT, PREFIX
from tune.execution import progress
from tune.execution.controller import forgetting
from tune.execution.ray_errors import as_failures_of_trials
from tune.execution.ray_settings import quiet
from tune.execution.recorder import Recorder
from tune.execution.trainable import Job, Training, train_name, trainable
from tune.experiments import spec
from tune.experiments.spec import Run
from tune.results import run_record
from tune.results.run_folder import Asked, RunFolder, Trial
from tune.results.sync import Storage
from tune.searchers.generator import Samples
from tune.searchers.known import Known

UNLIMITED = 1_000_000
"""Trials, where only a time budget ends a search."""
RETRIES = 1
"""How often a crashed trial goes on from its checkpoint; a NaN or a wrong file is no crash and not retried."""
CUT = {"interrupted": console.INTERRUPTED, "lost": LostRayError.exit_code}
"""Why a run was cut short, and its exit code."""
STATE = "tune"
"""The folder of Tune's own state, below the run's storage."""


@dataclass(frozen=True)
class Work(ABC):
    """What is to be run: a search or a study."""

    run: Run
    name: str
    base: Config
    """What trials start from."""
    metric: str
    """What trials are selected by, or compared by first."""
    trials: int | None
    """In all; none: as many as the time allows."""
    time_budget_s: float | None
    metrics: Sequence[str] = ()
    """Of which all epochs are written down, beside ``metric``."""
    ranks: bool = True
    """Whether the best trial so far is of interest."""
    hopeless: int = 3
    """Trials, or variants of a study, that fail before any gives a number: then it gives up."""

    @property
    def needed(self) -> list[str]:
        """Metrics that every epoch of a trial must give."""
        return [self.metric]

    @property
    def named(self) -> list[str]:
        """All metrics that the question names: the data must be able to give them."""
        return list(dict.fromkeys([*self.needed, *self.metrics]))

    @property
    def mode(self) -> str:
        """The direction in Tune's words."""
        return "max" if METRICS[self.metric].higher_is_better else "min"

    @property
    def data(self) -> Sequence[Config]:
        """A configuration for each of the data that trials need."""
        return [self.base]

    @property
    @abstractmethod
    def backbones(self) -> Sequence[BackboneConfig]:
        """The image encoders that trials build."""

    @property
    def data_keys(self) -> list[str]:
        """What the data are, for the record."""
        return [data_key(config) for config in self.data]

    @property
    def limit(self) -> int:
        """Trials that may be asked for."""
        return self.trials or UNLIMITED

    @abstractmethod
    def check_same(self, asked: Asked) -> None:
        """Raise a ``RunError`` unless a run that is resumed asked the same."""

    @abstractmethod
    def announce(self, concurrent: int) -> str:
        """What is said when it begins."""

    @abstractmethod
    def begin(self, storage: Storage, incomplete: Sequence[str] = ()) -> None:
        """Write down what is asked, and what is missing of the data."""

    @abstractmethod
    def searcher(self, folder: RunFolder) -> Searcher:
        """Who says what is tried: a ``tune.searchers.generator.Chooser``."""

    @abstractmethod
    def scheduler(self, searcher: Any) -> TrialScheduler:
        """Who stops trials early."""

    def known(self, folder: RunFolder) -> Known | None:  # noqa: ARG002 - a study looks before it begins
        """What needs no training; none: all is trained."""
        return None

    @abstractmethod
    def is_done(self, folder: RunFolder) -> bool:
        """Whether nothing is left to train, so that no Ray is needed."""

    def keep(self, storage: Storage, trial_id: str) -> None:  # noqa: B027 - nothing more, of a search
        """Keep more of a complete trial than its row."""


@dataclass(frozen=True)
class Outcome:
    """What a run leaves."""

    folder: RunFolder
    trials: list[Trial]
    best: Trial | None
    """Of a search."""
    stopped: str | None
    """Why it ended early: interrupted, lost (Ray died), time budget, used up (the space), constraints, failures, or
    nothing left (of a run that is resumed); or None."""

    @property
    def exit_code(self) -> int:
        """Of the command: not 0 where the run was cut short, and is to be gone on with."""
        return CUT.get(self.stopped or "", 0)


@contextlib.contextmanager
def go(work: Work, training: Training, show: Console) -> Iterator[tuple[Storage, str | None]]:
    """Run all trials; gives where they are, and why it ended early: see ``Outcome.stopped``.

    In the block no other process works on the run: there it is brought to its end.

    Args:
        work: what is to be run.
        training: what a trial calls.
        show: where progress is shown.

    Raises:
        ConfigError, ClusterError, RunError, StorageError: something asked for cannot be; nothing was started.
    """
    storage = Storage(work.name, work.run.runs, work.run.storage)
    run_record.check_name_is_free(work.run, storage)
    storage.check()
    with storage.lock():
        try:
            run_record.check_name_is_free(work.run, storage)  # again: somebody may have been quicker
            folder = RunFolder(storage.local)
            if work.run.resume:
                storage.pull()
                work.check_same(folder.asked())
                run_record.check_same_data(folder.asked(), folder.trials(), work.base, work.data)
            if work.is_done(folder):
                work.begin(storage)
                yield storage, "nothing left"
                return
            if work.run.resume:
                asked = folder.asked()
                revision.check_same(asked.name, asked.codes, asked.commit, share_any=work.run.share_any)
            check.check_backbones(work.backbones, one_is_enough=work.ranks)
            show.print(f"Starting on {connect.place(work.run.address)} ...")
            yield storage, _connected(work, storage, training, show)
        finally:
            storage.discard_if_empty()


def end(storage: Storage, write: Callable[[RunFolder], None]) -> None:
    """Write the report, and remove what nobody will read."""
    folder = RunFolder(storage.local)
    trials = folder.trials()
    if folder.newest.exists():
        folder.write_trials(trials)
    _remove_checkpoints(storage, trials)
    write(folder)
    storage.push_reports()


def check_some(found: bool, rule: str, trials: Sequence[Trial], stopped: str | None, folder: RunFolder) -> None:
    """Raise what most trials failed for, where not one gave a value."""
    if stopped == "failures" or (not found and stopped not in CUT):
        errors = list(dict.fromkeys(trial.error for trial in trials if trial.error)) or [
            "no epoch ended in time; --resume gives it more"
        ]
        lines = "\n".join(f"  - {error}" for error in errors[:5])
        raise kind_of([trial.error_kind for trial in trials if trial.error])(
            f"{rule}; of {len(trials)} none did:\n{lines}\nThe run is kept in {folder.path}."
        )


def kind_of(names: Sequence[str | None]) -> type[HTTError]:
    """A mistake the user can mend, where every trial failed for one; else a training that went wrong.

    Args:
        names: of the classes of what trials failed for; none: of another kind than the project's.
    """
    mended = names and all(issubclass(of_name(name), UserError) for name in names)
    return UserError if mended else TrainingError


def _connected(work: Work, storage: Storage, training: Training, show: Console) -> str | None:
    """Connect to Ray and run all trials; a run that was cut short after it began says so instead of raising."""
    try:
        with connect.connect(work.run.address):
            return _with_machines(work, storage, training, show)
    except (KeyboardInterrupt, LostRayError) as error:
        if not (storage.local / "asked.yaml").exists():
            raise
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        console.err.print(f"error: {error}", markup=False)
        return "lost"


def _with_machines(work: Work, storage: Storage, training: Training, show: Console) -> str | None:
    job = _job(work, storage)
    concurrent = resources.require(job.worker_resources, job.workers)
    check.check(work.data, storage=storage.uri, workers=job.workers, gpus=job.gpus_per_trial, show=show)
    concurrent = min(concurrent, work.run.max_concurrent or concurrent)
    spec.check_latency(work.named, job.workers, concurrent)
    show.print(work.announce(concurrent))
    facts = [found for config in work.data if (found := training.prepare(config)) is not None]
    spec.check_known(work.named, {name: why for found in facts for name, why in found.unknown.items()})
    incomplete = list(dict.fromkeys(said for found in facts for said in found.incomplete))
    for warning in incomplete:
        show.print(f"warning: {warning}", markup=False)
    work.begin(storage, incomplete)
    storage.push()  # from now on the files in the bucket are this machine's
    command = "ablate" if RunFolder(storage.local).asked().kind == "study" else "search"
    heartbeat.GO_ON[:] = [f"Stopped. Go on with: python tune/{command}.py --resume {storage.local}"]
    with driver_log.written(storage.local):
        return _try(work, storage, job, training, concurrent, show)


def _try(work: Work, storage: Storage, job: Job, training: Training, concurrent: int, show: Console) -> str | None:
    """Run Tune to its end; gives why it ended early."""
    folder = RunFolder(storage.local)
    searcher: Any = work.searcher(folder)
    samples = Samples(searcher, concurrent=concurrent, trials=work.limit)
    display = progress.Display(
        show, trials=work.trials, epochs=work.base.train.epochs, metric=work.metric, best=work.ranks
    )
    recorder = Recorder(
        folder,
        storage,
        work.base,
        searcher,
        samples,
        metric=work.metric,
        metrics=work.metrics,
        needed=work.needed,
        time_budget_s=work.time_budget_s,
        hopeless=work.hopeless,
        known=work.known(folder),
        keep=lambda trial_id: work.keep(storage, trial_id),
        tick=display.tick,
        ended=display.on_end,
    )

    def forgot(trial_id: str) -> None:
        if job.alone and trial_id in recorder.done:  # workers of a group may still be at it, until the run ends
            _remove_checkpoints(storage, [recorder.done[trial_id]])

    with (
        quiet(),
        as_failures_of_trials(),
        display,
        storage.watched(),
        storage.refusals_behind(),
        forgetting(recorder.is_written, forgot),
    ):
        try:
            _tune(work, storage, trainable(job, training), samples, work.scheduler(searcher), recorder)
        except KeyboardInterrupt:
            if recorder.stop_reason is None:
                raise  # else Tune was at its end, and only tidied up
        finally:
            recorder.release()
            recorder.interrupted()
            searcher.close()
    if recorder.fault is not None:
        raise recorder.fault
    return recorder.stop_reason or ("used up" if samples.used_up else None)


def _tune(
    work: Work,
    storage: Storage,
    function: Any,
    samples: Samples,
    scheduler: TrialScheduler,
    recorder: Recorder,
) -> None:
    """``Tuner`` would restore the searcher and callbacks it pickled; ``run`` takes fresh ones, which know the study."""
    again = work.run.resume and _can_restore(storage)
    ray.tune.run(
        function,
        name=STATE,
        **stores.for_ray(storage.uri),
        metric=work.metric,
        mode=work.mode,
        num_samples=samples.trials,
        search_alg=samples,
        scheduler=scheduler,
        checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=KEPT),
        max_failures=RETRIES,
        reuse_actors=work.run.workers_per_trial == 1,  # a stopped Ray Train trial must take its process with it
        raise_on_failed_trial=False,
        callbacks=[recorder],
        trial_dirname_creator=_trial_id,
        trial_name_creator=_trial_id,
        resume_config=_resume_config() if again else None,
        verbose=0,
    )


def _job(work: Work, storage: Storage) -> Job:
    return Job(
        base=work.base.model_dump(mode="json"),
        metric=work.metric,
        folder=None if storage.remote else f"{storage.uri}/trials",
        storage=stores.below(storage.uri, "train"),
        workers=work.run.workers_per_trial,
        cpus_per_worker=work.run.cpus_per_worker,
        gpus_per_trial=resources.gpus(work.run.gpus_per_trial, work.run.workers_per_trial),
        needed=tuple(work.needed),
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
        if trial.state == "complete" and not trial.taken_from:
            inside = [name for name in storage.folders(f"{STATE}/{trial.id}") if name.startswith(PREFIX)]
            storage.remove(*(f"{STATE}/{trial.id}/{name}" for name in sorted(inside)[:-1]))
        if trial.state in ("pruned", "failed"):
            inside = storage.folders(f"{STATE}/{trial.id}")
            places = [f"{STATE}/{trial.id}/{name}" for name in inside if name.startswith("checkpoint_")]
            storage.remove(*places, f"train/{train_name(trial.id)}", f"trials/{trial.id}/checkpoints")


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)
