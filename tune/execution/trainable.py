"""One trial: a sample becomes a configuration here, and nowhere else, and is trained.

Two roads, chosen by the resources asked for, lead to the same training and the same numbers:

- ``alone``: one worker is the Tune trial itself. Its process serves trial after trial, so starting one costs little.
- ``group``: several workers are a Ray Train run that the trial starts and listens to. The trial itself takes no CPU, or
  it would keep its own workers from starting.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune

from cluster import storage as stores
from htt.config import Config, from_plain, override
from htt.errors import DamagedCheckpointError, HTTError, StorageError, TrainingError, storage_errors
from htt.evaluation.metric_table import EVALUATED
from htt.parallel import use_given
from htt.training.older import NOTE, older

Report = Callable[["dict[str, float]", "Path | None"], None]
DRIVER = {"node:__internal_head__": 0.001}
"""What a trial that only starts workers takes: a place on the head, no CPU."""
ERROR = "error"
"""A result's word for why its trial ended."""
ERROR_KIND = "error_kind"
"""The class of that error."""
REPORTS = 120
"""So often a trial says that its storage refuses, once a second, before it fails for that."""
REPORTED = "metrics"
"""A checkpoint's note of what was reported with it."""


@dataclass(frozen=True)
class Training:
    """What a trial calls: the project's training, or a stand-in for it."""

    train: Callable[..., None]
    """``train(config, folder, report, resume)``, as in ``htt.training.tasks``."""
    trainer: Callable[..., Any]
    """``trainer(config, workers=, ...)``, as in ``cluster.trainer``."""
    prepare: Callable[[Config], Any]
    """``prepare(config)``, as ``prepare_search`` in ``htt.training.tasks``; a stand-in may return None."""


def project_training() -> Training:
    """The project's own training."""
    from cluster.trainer import trainer
    from htt.training.tasks import prepare_search, train

    return Training(train, trainer, prepare_search)


@dataclass(frozen=True)
class Job:
    """What all trials of a run share, as plain data."""

    base: Mapping[str, Any]
    """The configuration the trials start from."""
    metric: str
    folder: str | None
    """Where trials write TensorBoard files, a folder each; none: nowhere that lasts."""
    storage: str
    """Where Ray Train runs keep their checkpoints."""
    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float = 0.0
    needed: Sequence[str] = ()
    """Metrics that a trial must give; ``metric`` is one of them."""

    @property
    def worker_resources(self) -> dict[str, float]:
        """Of one worker."""
        return {"CPU": self.cpus_per_worker, "GPU": self.gpus_per_trial / max(1, self.workers)}

    @property
    def alone(self) -> bool:
        """Whether a trial is one process."""
        return self.workers == 1


def trainable(job: Job, training: Training) -> Callable[[dict[str, Any]], None]:
    """The function Tune runs for each trial, with the resources it takes."""
    function = functools.partial(alone if job.alone else group, training, job)  # once, not in each trial's settings
    taken = {name: amount for name, amount in job.worker_resources.items() if amount}
    needs: Callable[[dict[str, Any]], None] = ray.tune.with_resources(function, taken if job.alone else DRIVER)
    return needs


def alone(training: Training, job: Job, settings: dict[str, Any]) -> None:
    """Train in this process, going on from the trial's checkpoint where it has one."""
    use_given()
    free()
    checkpoint = ray.tune.get_checkpoint()
    with _errors_as_results(job) as seen:
        config: Config = override(from_plain(job.base, Config), settings["values"])

        def report(metrics: dict[str, float], saved: Path | None) -> None:
            if lacking := lacks(job, metrics):
                raise TrainingError(lacking)
            seen.update(metrics)
            kept = ray.tune.Checkpoint.from_directory(str(saved)) if saved else None
            if kept:
                kept.set_metadata({REPORTED: metrics})
            copied.update([saved] if saved else [])
            ray.tune.report({**metrics, **({NOTE: notes.pop()} if notes else {})}, checkpoint=kept)

        copied: set[Path] = set()
        notes: list[str] = []
        try:
            folder = _folder(job)
            checkpoint = _go_on(
                lambda resume: training.train(config, folder, report, resume), checkpoint, folder, notes
            )
            if checkpoint and not seen:  # killed between its last checkpoint and Tune's note of it
                ray.tune.report(checkpoint.get_metadata()[REPORTED])
        finally:  # also when the scheduler stops the trial, which ends this thread inside a report
            for saved in copied:
                shutil.rmtree(saved, ignore_errors=True)
    free()


def _go_on(
    train: Callable[[Path | None], None], newest: ray.tune.Checkpoint | None, folder: Path, notes: list[str]
) -> ray.tune.Checkpoint | None:
    """Train from the newest checkpoint that is whole, or anew where none is; gives the one it was.

    Args:
        train: is given the folder of the checkpoint.
        newest: checkpoint of the trial; None: it has none yet.
        folder: of the trial.
        notes: takes a sentence where another checkpoint than the newest was used.
    """
    system = newest.filesystem if newest else None
    before = [ray.tune.Checkpoint(place, system) for place in older(newest.path, system)] if newest else []
    for kept in [*([newest, *before] if newest else []), None]:
        try:
            place = kept.as_directory() if kept else contextlib.nullcontext()
            with storage_errors(folder), place as resume:
                train(Path(resume) if resume else None)
            return kept
        except DamagedCheckpointError as error:
            if kept is None:
                raise
            notes[:] = [f"{kept.path} is not used: {error} The trial goes on from the one before, or else anew."]
    return None


def group(training: Training, job: Job, settings: dict[str, Any]) -> None:
    """Start a Ray Train run and pass its reports on; the same name on a retry goes on from its own checkpoint."""
    import ray.train
    from ray.tune.integration.ray_train import CHECKPOINT_PATH_KEY

    from htt.training.worker import our_error

    name = train_name(ray.tune.get_context().get_trial_id())
    with _errors_as_results(job):
        config: Config = override(from_plain(job.base, Config), settings["values"])
        run = training.trainer(
            config,
            workers=job.workers,
            cpus_per_worker=job.cpus_per_worker,
            gpus_per_worker=job.worker_resources["GPU"],
            storage=job.storage,
            name=name,
            callbacks=[complete_reports(job)],
            folder=str(_folder(job)) if job.folder else None,
        )
        with storage_errors(job.storage):
            before = stores.listed(stores.below(job.storage, name))
        try:
            result = run.fit()
        except ray.train.TrainingFailedError as error:
            if ours := our_error(error):
                raise ours from error
            raise
        done_before = result.checkpoint and Path(result.checkpoint.path).name in before
        if done_before:  # and Tune was not told
            ray.tune.report({**result.metrics, CHECKPOINT_PATH_KEY: result.checkpoint.path})


def complete_reports(job: Job) -> Any:
    """Return Ray's callback from a Ray Train run to Tune, which marks an epoch that lacks a needed metric as failed.

    Tune ends the whole run for a result without the metric it selects by.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    class Complete(TuneReportCallback):
        lacking: str | None = None

        def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
            first = metrics[0]
            self.lacking = self.lacking or (lacks(job, first) if first else None)
            if self.lacking:  # and of every later epoch: the trial has failed
                first = {**first, job.metric: math.nan, ERROR: f"{TrainingError.__name__}: {self.lacking}"}
            super().after_report(run_context, [first, *metrics[1:]], checkpoint)

    return Complete()  # type: ignore[no-untyped-call]


def lacks(job: Job, metrics: Mapping[str, float]) -> str | None:
    """Return what is wrong with an epoch that lacks a metric the run needs; None if it has all."""
    missing = [name for name in job.needed if name in EVALUATED and name not in metrics]  # costs: once a training
    if not missing:
        return None
    return (
        f"an epoch must give {' and '.join(missing)}, which the run selects by; it gave "
        f"{', '.join(name for name in EVALUATED if name in metrics) or 'none'}"
    )


def train_name(trial_id: str) -> str:
    """The name of a trial's Ray Train run: a finished name gives its old result, so it is the trial's own."""
    return f"train-{trial_id}"


def free() -> None:
    """Give back the memory of the trial before: this process serves many."""
    gc.collect()
    if gc.get_freeze_count() == 0:  # before the first trial: what is imported now stays, and is not looked at again
        gc.freeze()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library keeps its own counsel
            ctypes.CDLL("libc.so.6").malloc_trim(0)


@contextlib.contextmanager
def _errors_as_results(job: Job) -> Any:
    """A failure that would only repeat itself ends the trial with one last result that says so; crashes are retried."""
    seen: dict[str, float] = {}
    try:
        yield seen
    except HTTError as error:
        kind = type(error).__name__
        last = {"epoch": 0, job.metric: math.nan, **seen, ERROR: f"{kind}: {error}", ERROR_KIND: kind}
        if isinstance(error, StorageError):
            ray.tune.report(last)
            _report_until_stopped(last)
            raise
        ray.tune.report({**last, job.metric: math.nan})


def _report_until_stopped(last: dict[str, Any]) -> None:
    """Report again and again, for the driver ends the run for it and Tune ends this thread within a report.

    A resumed run goes on with this trial then. If neither happens, it has to fail.
    """
    for _ in range(REPORTS):
        time.sleep(1.0)
        ray.tune.report(last)


def _folder(job: Job) -> Path:
    """Where a trial may write."""
    context = ray.tune.get_context()
    folder = Path(job.folder) / context.get_trial_id() if job.folder else Path(context.get_trial_dir())
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder
