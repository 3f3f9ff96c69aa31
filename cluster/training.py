"""Final training of one configuration with Ray Train: ``launch`` runs one, a retraining runs one for each seed."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.util.queue
from pyarrow import ArrowException, fs

from cluster import resources
from cluster.run_folder import CHECKPOINT_FOLDER, METRICS_FILE, EpochLog, shared_folder, train_name
from cluster.trainer import trainer
from htt import console
from htt.config import Config
from htt.data.loading import order
from htt.errors import ClusterError, ConfigError, DamagedCheckpointError, StorageError, storage_errors
from htt.model.weights import check_sums
from htt.training.messages import Start, Step
from htt.training.worker import interruptible, listening, our_error, stopped

OnEpoch = Callable[[dict[str, float]], None]
OnStart = Callable[[Start], None]
OnStep = Callable[[Step], None]


@dataclass(frozen=True)
class Workers:
    """Number of training processes, and the resources of each."""

    count: int = 1
    """Number of workers; the maximum if ``least`` is given."""
    cpus: float | None = None
    """Cores of each worker, or None for one, or with GPUs for the machine's cores per GPU (see ``settled``)."""
    gpus: float | None = None
    """GPUs of each worker, or None for one if the machines have any (see ``settled``)."""
    least: int | None = None
    """Minimum number of workers, or None if exactly ``count`` are needed."""

    def check(self, config: Config) -> None:
        """Raise a ``ConfigError`` if the resources are invalid or a step has fewer windows than workers."""
        cpus = 1.0 if self.cpus is None else self.cpus
        if not (0 < cpus < math.inf and 0 <= (self.gpus or 0.0) < math.inf):
            raise ConfigError(
                f"Invalid resources of a worker: --cpus-per-worker {cpus:g}, --gpus-per-worker "
                f"{self.gpus or 0:g}. Expected more than 0 CPUs, and 0 or more GPUs."
            )
        windows = config.train.batch_size
        if self.count > windows * order.times(config.train, self.count):
            raise ConfigError(
                f"Cannot share a step of {windows} windows (train.batch_size) among {self.count} workers. Raise it, "
                f"use at most {windows} workers, or let batch and learning rate grow with the workers: --set "
                "train.scaling=linear."
            )

    def settled(self) -> Workers:
        """Return a copy with ``gpus`` and ``cpus`` set: as given, or from the machines of the connected cluster."""
        gpus = resources.gpus(self.gpus)
        return replace(self, gpus=gpus, cpus=resources.cpus(self.cpus, gpus))

    @property
    def resources(self) -> dict[str, float]:
        """Resources of one worker for Ray."""
        return {"CPU": 1.0 if self.cpus is None else self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def __str__(self) -> str:
        few = f"{self.least} to " if self.least else ""
        gpus = f" with {self.gpus:g} GPU{'s' if self.gpus > 1 else ''} each" if self.gpus else ""
        return f"{few}{self.count} worker{'s' if self.count > 1 else ''}{gpus}"


@dataclass(frozen=True)
class TrainingResult:
    """Result of a final training."""

    metrics: dict[str, float]
    """Metrics of the last epoch on the validation split, and on the test split under ``test_...``."""
    checkpoint: Path
    """Folder of the last checkpoint."""
    incomplete: Sequence[str] = ()
    """One sentence for each split with missing clips."""


class EpochQueue(ray.train.UserCallback):
    """Ray Train callback that sends each epoch's metrics from the controller to the driver."""

    def __init__(self, queue: ray.util.queue.Queue) -> None:
        self._queue = queue

    def after_report(
        self,
        run_context: Any,  # noqa: ARG002
        metrics: list[dict[str, Any]],
        checkpoint: ray.train.Checkpoint | None,  # noqa: ARG002
    ) -> None:
        """Send the metrics after all workers have reported; a checkpoint within an epoch has no metrics."""
        if metrics[0]:
            self._queue.put(metrics[0])


def run(
    config: Config,
    folder: Path,
    workers: Workers,
    on_epoch: OnEpoch,
    *,
    on_start: OnStart | None = None,
    on_step: OnStep | None = None,
    storage: str | None = None,
    ready: Callable[[], None] | None = None,
) -> TrainingResult:
    """Train, evaluate on the validation and the test split, and copy the last checkpoint to ``folder``.

    A finished run is not trained again; its result is returned.

    Args:
        config: complete configuration of the training.
        folder: run folder, prepared by ``write_folder``.
        workers: number of workers, and the resources of each.
        on_epoch: called in this process with each epoch's metrics.
        on_start: called in this process when workers start, and each time new workers resume the training.
        on_step: called in this process every few seconds of a long epoch.
        storage: folder or URI that all machines can write to, or None for ``folder``, which must then be shared.
        ready: called by every worker when it starts; raises if its machine is not ready.

    Raises:
        HTTError: error of a worker, as it was raised there.
    """
    if earlier := finished(folder):
        return earlier
    log = EpochLog(folder / METRICS_FILE)
    shows = [show and console.harmless(show) for show in (on_start, on_step)]
    receive = _Receiver(log, console.harmless(on_epoch), *shows)
    shared = shared_folder(folder.resolve(), storage)
    with listening(receive) as queue:
        job = trainer(
            config,
            workers=workers.count,
            cpus_per_worker=workers.resources["CPU"],
            gpus_per_worker=workers.gpus or 0.0,
            storage=storage or str(folder.resolve()),
            name=train_name(folder),
            callbacks=[EpochQueue(queue)],
            folder=str(shared) if shared else None,
            least=workers.least,
            queue=queue,
            ready=ready,
        )
        try:
            with interruptible():
                result = job.fit()
        except ray.train.TrainingFailedError as error:
            raise our_error(error) or stopped(error, "training") from error
        log.finish(**(getattr(result, "return_value", None) or {"epochs": [], "final": result.metrics or {}}))
        checkpoint = _keep_checkpoint(result, folder)
    return TrainingResult(log.final, checkpoint, log.incomplete)


class _Receiver:
    """Handler of the workers' messages in this process: shows them and records the epochs."""

    def __init__(self, log: EpochLog, on_epoch: OnEpoch, on_start: OnStart | None, on_step: OnStep | None) -> None:
        self._log, self._on_epoch, self._on_start, self._on_step = log, on_epoch, on_start, on_step
        self._write_failed = False

    def __call__(self, message: Start | Step | dict[str, float]) -> None:
        if isinstance(message, Start):
            if message.note:
                console.err.print(message.note, markup=False)
            if self._on_start:
                self._on_start(message)
        elif isinstance(message, Step):
            if self._on_step:
                self._on_step(message)
        else:
            self._on_epoch(message)
            self._record(message)

    def _record(self, metrics: dict[str, float]) -> None:
        try:
            self._log.add(metrics)
            self._write_failed = False
        except StorageError as error:  # every later write includes this epoch too
            if not self._write_failed:
                console.err.print(f"The metrics of an epoch are not saved yet: {error}", markup=False)
            self._write_failed = True


def finished(folder: Path) -> TrainingResult | None:
    """Return the result of a finished run, or None if the run is not finished."""
    log, checkpoint = EpochLog(folder / METRICS_FILE), folder / CHECKPOINT_FOLDER
    return TrainingResult(log.final, checkpoint, log.incomplete) if log.final and checkpoint.exists() else None


def _keep_checkpoint(result: ray.train.Result, folder: Path) -> Path:
    """Copy the last checkpoint to the run's folder, completely or not at all; return its folder.

    Raises:
        ClusterError: Ray Train reported no checkpoint.
        StorageError: the storage cannot be read, this disk cannot be written, or the checkpoint is damaged.
    """
    if result.checkpoint is None:
        raise ClusterError("Cannot find the checkpoint of the finished training: Ray Train reported none.")
    kept, partial = folder / CHECKPOINT_FOLDER, folder / f".{CHECKPOINT_FOLDER}.part"
    with storage_errors(kept):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    try:
        with storage_errors(kept):
            fs.copy_files(
                result.checkpoint.path, str(partial), source_filesystem=result.checkpoint.filesystem,
                destination_filesystem=fs.LocalFileSystem(),
            )  # fmt: skip
    except (OSError, ArrowException) as error:
        raise StorageError(
            f"Cannot copy the checkpoint of the finished training from {result.checkpoint.path} to {kept}: {error}. "
            "Run the same command with --resume to copy it again."
        ) from error
    try:
        check_sums(partial)
    except DamagedCheckpointError as error:
        reason = str(error).replace(str(partial), result.checkpoint.path)
        raise StorageError(
            f"Cannot use the checkpoint of the finished training. {reason} Run the same command with --resume to train "
            "the last epoch again."
        ) from error
    with storage_errors(kept):
        shutil.rmtree(kept, ignore_errors=True)
        partial.replace(kept)
    return kept
