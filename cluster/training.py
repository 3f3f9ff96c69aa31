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

from cluster import resources as capacity
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
    cpus: float = 1.0
    """Cores of each worker."""
    gpus: float | None = None
    """GPUs of each worker, or None for one if the machines have any (see ``settled``)."""
    least: int | None = None
    """Minimum number of workers, or None if exactly ``count`` are needed."""

    def check(self, config: Config) -> None:
        """Raise a ``ConfigError`` if the resources are invalid or a step has fewer windows than workers."""
        if not (0 < self.cpus < math.inf and 0 <= (self.gpus or 0.0) < math.inf):
            raise ConfigError(
                "A worker needs a number of CPUs above 0, and of GPUs 0 or more; got "
                f"--cpus-per-worker {self.cpus:g} and --gpus-per-worker {self.gpus or 0:g}."
            )
        windows = config.train.batch_size
        if self.count > windows * order.times(config.train, self.count):
            many = f", also when there are {self.count};" if self.least else f"; there are {self.count}, and"
            raise ConfigError(
                f"A step must have a window for each worker{many} train.batch_size is {windows}. Raise it, ask for at "
                f"most {windows} workers, or let batch and learning rate grow with them: --set train.scaling=linear."
            )

    def settled(self) -> Workers:
        """Return a copy with ``gpus`` set: as given, or from the machines of the connected cluster."""
        return replace(self, gpus=capacity.gpus(self.gpus))

    @property
    def resources(self) -> dict[str, float]:
        """Resources of one worker for Ray."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def __str__(self) -> str:
        few = f"{self.least} to " if self.least else ""
        gpus = f" with {self.gpus:g} GPU{'s' if self.gpus > 1 else ''} each" if self.gpus else ""
        return f"{few}{self.count} worker{'s' if self.count > 1 else ''}{gpus}"


@dataclass(frozen=True)
class Outcome:
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
) -> Outcome:
    """Train, evaluate on the validation and the test split, and copy the last checkpoint to ``folder``.

    A finished run is not trained again; its outcome is returned.

    Args:
        config: complete configuration of the training.
        folder: run folder, prepared by ``claim_folder``.
        workers: number of workers, and the resources of each.
        on_epoch: called in this process with each epoch's metrics.
        on_start: called in this process when workers start, and each time new workers resume the training.
        on_step: called in this process every few seconds of a long epoch.
        storage: folder or URI that all machines can write to, or None for ``folder``, which must then be shared.
        ready: called by every worker when it starts; raises if its machine is not ready.

    Raises:
        HTTError: error of a worker, as it was raised there.
    """
    if known := finished(folder):
        return known
    log = EpochLog(folder / METRICS_FILE)
    shows = [show and console.harmless(show) for show in (on_start, on_step)]
    take = _Take(log, console.harmless(on_epoch), *shows)
    shared = shared_folder(folder.resolve(), storage)
    with listening(take) as queue:
        job = trainer(
            config,
            workers=workers.count,
            cpus_per_worker=workers.cpus,
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
    return Outcome(log.final, checkpoint, log.incomplete)


class _Take:
    """Handler of the workers' messages in this process: shows them and records the epochs."""

    def __init__(self, log: EpochLog, on_epoch: OnEpoch, on_start: OnStart | None, on_step: OnStep | None) -> None:
        self._log, self._on_epoch, self._on_start, self._on_step = log, on_epoch, on_start, on_step
        self._refused = False

    def __call__(self, told: Start | Step | dict[str, float]) -> None:
        if isinstance(told, Start):
            if told.note:
                console.err.print(told.note, markup=False)
            if self._on_start:
                self._on_start(told)
            return
        if isinstance(told, Step):
            if self._on_step:
                self._on_step(told)
            return
        self._on_epoch(told)
        try:
            self._log.add(told)
            self._refused = False
        except StorageError as error:  # every later write includes this epoch too
            if not self._refused:
                console.err.print(f"An epoch is not written down yet: {error}", markup=False)
            self._refused = True


def finished(folder: Path) -> Outcome | None:
    """Return the outcome of a finished run, or None if the run is not finished."""
    log, kept = EpochLog(folder / METRICS_FILE), folder / CHECKPOINT_FOLDER
    return Outcome(log.final, kept, log.incomplete) if log.final and kept.exists() else None


def _keep_checkpoint(result: ray.train.Result, folder: Path) -> Path:
    """Copy the last checkpoint to the run's folder, completely or not at all; return its folder.

    Raises:
        ClusterError: Ray Train reported no checkpoint.
        StorageError: the storage cannot be read, this disk cannot be written, or the checkpoint is damaged.
    """
    if result.checkpoint is None:
        raise ClusterError("A finished training must leave a checkpoint; Ray Train reported none.")
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
            f"The checkpoint of the finished training must come from {result.checkpoint.path} to {kept}; it does not: "
            f"{error}. The same command with --resume fetches it."
        ) from error
    try:
        check_sums(partial)
    except DamagedCheckpointError as error:
        said = str(error).replace(str(partial), result.checkpoint.path)
        raise StorageError(
            f"The checkpoint of the finished training cannot be kept. {said} The same command with --resume trains its "
            "last epoch again."
        ) from error
    with storage_errors(kept):
        shutil.rmtree(kept, ignore_errors=True)
        partial.replace(kept)
    return kept
