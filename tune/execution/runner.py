"""Run an experiment end to end: validate, connect to Ray, prepare the data, run the trials.

Searches and studies share this code; ``Experiment`` defines the differences. All user errors are found before resources
are requested. A finished trial is on disk before the next one starts, so after a killed driver, Ctrl-C or an exhausted
budget ``--resume`` continues without losing a finished trial.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.tune
from ray.tune.schedulers import TrialScheduler
from rich.console import Console

from cluster import connect, resources, revision
from cluster.preflight import check
from cluster.storage import join_uri, ray_storage
from htt import console, driver_log, heartbeat
from htt.errors import HTTError, TrainingError, UserError, error_class
from htt.heartbeat import LostRayError
from htt.training.older import KEPT, PREFIX
from tune.execution import progress
from tune.execution.controller import forgetting
from tune.execution.experiment import STATE, Experiment
from tune.execution.ray_errors import as_failures_of_trials
from tune.execution.ray_settings import quiet
from tune.execution.recorder import Recorder
from tune.execution.resume import check_name, check_same_data, check_unchanged
from tune.execution.trainable import Job, TrialFunctions, train_name, trainable
from tune.experiments import checks
from tune.results.run_folder import RunFolder, Trial
from tune.results.sync import Storage
from tune.searchers.generator import TrialGenerator

RETRIES = 1
"""Number of retries of a crashed trial, from its checkpoint; a NaN or an invalid file is no crash and not retried."""
CUT = {"interrupted": console.INTERRUPTED, "lost": LostRayError.exit_code}
"""{reason why a run was interrupted: exit code}."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run."""

    folder: RunFolder
    trials: list[Trial]
    best: Trial | None
    """The best trial of a search, or None."""
    stopped: str | None
    """Reason why the run ended early, or None: interrupted, lost (Ray died), time budget, used up (the space),
    constraints, failures, or nothing left (of a resumed run)."""

    @property
    def exit_code(self) -> int:
        """Exit code of the command: not 0 if the run was interrupted and can be resumed."""
        return CUT.get(self.stopped or "", 0)


@contextlib.contextmanager
def run(experiment: Experiment, training: TrialFunctions, show: Console) -> Iterator[str | None]:
    """Run all trials, and yield the reason why the run ended early (see ``Outcome.stopped``).

    The run stays locked against other processes within the ``with`` block, where the caller completes it.

    Raises:
        ConfigError, ClusterError, RunError, StorageError: the request is invalid; nothing was started.
    """
    spec, storage, resume = experiment.spec, experiment.storage, experiment.resume
    check_name(storage, resume=resume)
    storage.check()
    with storage.lock():
        try:
            check_name(storage, resume=resume)  # again: another process may have been faster
            if resume:
                storage.pull()
                record = experiment.folder.record
                check_unchanged(record, spec)
                check_same_data(record, experiment.folder.trials(), experiment.base, experiment.data)
            if experiment.is_done():
                experiment.write_record()
                yield "nothing left"
                return
            if resume:
                revision.check_same(record.name, record.codes, record.commit, share_any=spec.share_any)
            check.check_backbones(experiment.backbones, one_is_enough=experiment.ranks)
            show.print(f"Starting on {connect.target(spec.address)} ...")
            yield _connected(experiment, training, show)
        finally:
            storage.discard_if_empty()


def end(storage: Storage, write: Callable[[RunFolder], None]) -> None:
    """Write the report, and remove checkpoints that are no longer needed."""
    folder = RunFolder(storage.local)
    trials = folder.trials()
    if folder.appended.exists():
        folder.write_trials(trials)
    _remove_checkpoints(storage, trials)
    write(folder)
    storage.push_reports()


def check_some(found: bool, rule: str, trials: Sequence[Trial], stopped: str | None, folder: RunFolder) -> None:
    """Raise the trials' first errors if none gave a value or the run stopped because of failures."""
    if stopped == "failures" or (not found and stopped not in CUT):
        errors = list(dict.fromkeys(trial.error for trial in trials if trial.error)) or [
            "no epoch ended within the time budget; --resume continues the run"
        ]
        lines = "\n".join(f"  - {error}" for error in errors[:5])
        raise kind_of([trial.error_kind for trial in trials if trial.error])(
            f"{rule}, out of {len(trials)}:\n{lines}\nThe run is kept in {folder.path}."
        )


def kind_of(names: Sequence[str | None]) -> type[HTTError]:
    """Return ``UserError`` if every trial failed with an error that the user can correct, else ``TrainingError``.

    ``names`` are the class names of the trials' errors, or None for an error that is not the project's own.
    """
    correctable = names and all(issubclass(error_class(name), UserError) for name in names)
    return UserError if correctable else TrainingError


def _connected(experiment: Experiment, training: TrialFunctions, show: Console) -> str | None:
    """Connect to Ray and run all trials; return the reason if the run is interrupted after it was recorded."""
    try:
        with connect.connect(experiment.spec.address, train=experiment.spec.workers_per_trial > 1):
            return _with_machines(experiment, training, show)
    except (KeyboardInterrupt, LostRayError) as error:
        if not experiment.folder.exists():
            raise
        if isinstance(error, KeyboardInterrupt):
            return "interrupted"
        console.err.print(f"error: {error}", markup=False)
        return "lost"


def _with_machines(experiment: Experiment, training: TrialFunctions, show: Console) -> str | None:
    job, storage = _job(experiment), experiment.storage
    concurrent = resources.require(job.worker_resources, job.workers)
    check.check(experiment.data, storage=storage.uri, workers=job.workers, gpus=job.gpus_per_trial, show=show)
    concurrent = min(concurrent, experiment.spec.max_concurrent or concurrent)
    checks.check_latency(experiment.named, job.workers, concurrent)
    show.print(experiment.announce(concurrent))
    facts = [each for config in experiment.data if (each := training.prepare(config)) is not None]
    unknown = {name: why for each in facts for name, why in each.unknown.items()}
    for each in facts:  # a metric that other variants have is worth a comparison
        never = (name for name in each.unpredicted if all(name in other.unpredicted for other in facts))
        unknown |= {name: each.unpredicted[name] for name in never}
    checks.check_known(experiment.named, unknown)
    incomplete = list(dict.fromkeys(message for each in facts for message in each.incomplete))
    for warning in incomplete:
        show.print(f"warning: {warning}", markup=False)
    experiment.write_record(incomplete, facts[0].baselines if len(facts) == 1 else None)
    storage.push()  # from now on this machine's files replace those in the bucket
    heartbeat.set_resume_hint(f"Stopped. Resume with: {experiment.resume_command}")
    with driver_log.written(storage.local):
        return _try(experiment, job, training, concurrent, show)


def _try(experiment: Experiment, job: Job, training: TrialFunctions, concurrent: int, show: Console) -> str | None:
    """Run Tune to its end, and return the reason why it ended early."""
    storage = experiment.storage
    searcher: Any = experiment.searcher()
    samples = TrialGenerator(searcher, experiment.base, concurrent=concurrent, trials=experiment.limit)
    display = progress.Display(
        show,
        trials=experiment.trials,
        epochs=experiment.base.train.epochs,
        metric=experiment.metric,
        best=experiment.ranks,
    )
    recorder = Recorder(experiment, samples, tick=display.tick, ended=display.on_end)

    def forgot(trial_id: str) -> None:
        if job.alone and trial_id in recorder.done:  # workers of Ray Train may still use theirs until the run ends
            _remove_checkpoints(storage, [recorder.done[trial_id]])

    with (
        quiet(),
        as_failures_of_trials(),
        display,
        storage.watched(),
        storage.disk_errors(),
        forgetting(recorder.is_written, forgot),
    ):
        try:
            _tune(experiment, trainable(job, training), samples, experiment.scheduler(searcher), recorder)
        except KeyboardInterrupt:
            if recorder.stop_reason is None:
                raise  # otherwise Tune had ended and was only cleaning up
        finally:
            recorder.release()
            recorder.interrupted()
            searcher.close()
    if recorder.fault is not None:
        raise recorder.fault
    return recorder.stop_reason or ("used up" if samples.used_up else None)


def _tune(
    experiment: Experiment, function: Any, samples: TrialGenerator, scheduler: TrialScheduler, recorder: Recorder
) -> None:
    """Call ``ray.tune.run``: ``Tuner`` would restore a pickled searcher and callbacks instead of fresh ones."""
    again = experiment.resume and _can_restore(experiment.storage)
    ray.tune.run(
        function,
        name=STATE,
        **ray_storage(experiment.storage.uri),
        metric=experiment.metric,
        mode=experiment.mode,
        num_samples=samples.trials,
        search_alg=samples,
        scheduler=scheduler,
        checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=KEPT),
        max_failures=RETRIES,
        reuse_actors=experiment.spec.workers_per_trial == 1,  # a stopped Ray Train trial must end its process
        raise_on_failed_trial=False,
        callbacks=[recorder],
        trial_dirname_creator=_trial_id,
        trial_name_creator=_trial_id,
        resume_config=_resume_config() if again else None,
        verbose=0,
    )


def _job(experiment: Experiment) -> Job:
    spec, storage = experiment.spec, experiment.storage
    gpus = resources.gpus(spec.gpus_per_trial, spec.workers_per_trial)
    return Job(
        base=experiment.base.model_dump(mode="json"),
        metric=experiment.metric,
        folder=None if storage.remote else f"{storage.uri}/trials",
        storage=join_uri(storage.uri, "train"),
        workers=spec.workers_per_trial,
        cpus_per_worker=resources.cpus(spec.cpus_per_worker, gpus / max(1, spec.workers_per_trial)),
        gpus_per_trial=gpus,
        needed=tuple(experiment.needed),
    )


def _can_restore(storage: Storage) -> bool:
    """Return True if Tune saved at least one trial; otherwise the study alone holds the run's state."""
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
    """Remove checkpoints of pruned and failed trials; a complete trial keeps its newest, a stopped one keeps all."""
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
