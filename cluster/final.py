"""The final training of one configuration: its folder, its progress, its result.

``runs/<name>/`` afterwards holds ``config.yaml`` (what was trained), ``metrics.json`` (every epoch, and the final
evaluation on the validation and the test split), ``checkpoint/`` (read by ``htt.training.checkpoint.load``),
``tensorboard/`` and Ray Train's own ``train/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs
import ray.train
import ray.util.queue

from cluster.trainer import trainer
from htt.config import Config, read, to_yaml
from htt.errors import ClusterError, RunError, storage_errors
from htt.training.worker import listening, our_error, stopped

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
CHECKPOINT_FOLDER = "checkpoint"

OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Workers:
    """How many processes train, and what each is given."""

    count: int = 1
    cpus: float = 1.0
    gpus: float = 0.0

    @property
    def resources(self) -> dict[str, float]:
        """What one worker asks of Ray."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}


@dataclass(frozen=True)
class Outcome:
    """What a final training leaves."""

    metrics: dict[str, float]
    """Of the last epoch on the validation split, and of the test split under ``test_...``."""
    checkpoint: Path


class EpochLog:
    """``metrics.json``: every epoch as it comes, then the final evaluation. A resumed run goes on with the old file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.epochs: dict[int, dict[str, float]] = {int(entry["epoch"]): entry for entry in found.get("epochs", [])}
        self.final: dict[str, float] = found.get("final", {})

    def add(self, metrics: dict[str, float]) -> None:
        """Write down an epoch; one that was repeated after a failure replaces the first."""
        self.epochs[int(metrics["epoch"])] = metrics
        self._write()

    def finish(self, epochs: Sequence[dict[str, float]], final: dict[str, float]) -> None:
        """Write down the final evaluation, and epochs that workers finished while nobody listened."""
        self.epochs |= {int(metrics["epoch"]): metrics for metrics in epochs}
        self.final = final
        self._write()

    def _write(self) -> None:
        plain = {"final": self.final, "epochs": [self.epochs[epoch] for epoch in sorted(self.epochs)]}
        with storage_errors(self._file):
            beside = self._file.with_suffix(".tmp")
            beside.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
            beside.replace(self._file)


class EpochQueue(ray.train.UserCallback):
    """Sends each epoch's metrics from the controller, wherever it runs, to whoever started the training."""

    def __init__(self, queue: ray.util.queue.Queue) -> None:
        self._queue = queue

    def after_report(
        self,
        run_context: Any,  # noqa: ARG002
        metrics: list[dict[str, Any]],
        checkpoint: ray.train.Checkpoint | None,  # noqa: ARG002
    ) -> None:
        """Called by Ray Train once every worker has reported an epoch."""
        self._queue.put(metrics[0])


def check_folder(folder: Path, config: Config, *, resume: bool) -> None:
    """Check that a run's name is free, or that its folder holds the same training when resuming.

    Raises:
        RunError: the name is taken, or the folder to resume holds another configuration or none.
    """
    file = folder / CONFIG_FILE
    if resume:
        if not file.exists():
            raise RunError(f"--resume needs a run that was started; there is no {file}.")
        if read(file).fingerprint() != config.fingerprint():
            raise RunError(f"--resume goes on with the same training; {file} holds another configuration.")
        return
    if file.exists():
        raise RunError(f"A run needs a name of its own; {folder} is taken. Choose another --name, or --resume it.")


def claim_folder(folder: Path, config: Config) -> None:
    """Make a run's folder and write down what is trained in it."""
    file = folder / CONFIG_FILE
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(to_yaml(config), encoding="utf-8")


def run(config: Config, folder: Path, workers: Workers, on_epoch: OnEpoch, *, storage: str | None = None) -> Outcome:
    """Train, evaluate the validation and the test split, and leave the last checkpoint in ``folder``.

    A run that had finished gives its outcome again.

    Args:
        config: the training, completely.
        folder: a claimed run folder.
        workers: how many, and what each is given.
        on_epoch: called in this process with each epoch's metrics.
        storage: folder or URI that every worker's machine can write; none: ``folder``, which then must be shared.

    Raises:
        HTTError: what went wrong on a worker, as it was raised there.
    """
    log = EpochLog(folder / METRICS_FILE)
    if log.final:
        return Outcome(log.final, folder / CHECKPOINT_FOLDER)

    def take(metrics: dict[str, float]) -> None:
        log.add(metrics)
        on_epoch(metrics)

    with listening(take) as queue:
        job = trainer(
            config,
            workers=workers.count,
            cpus_per_worker=workers.cpus,
            gpus_per_worker=workers.gpus,
            storage=storage or str(folder.resolve()),
            name=f"{folder.name}-train",
            callbacks=[EpochQueue(queue)],
            folder=None if storage else str(folder.resolve()),
            test=True,
        )
        try:
            result = job.fit()
        except SystemExit as stop:  # how Ray Train answers Ctrl-C, having stopped the workers
            raise KeyboardInterrupt from stop
        except ray.train.TrainingFailedError as error:
            raise our_error(error) or stopped(error, "training") from error
    checkpoint = _keep_checkpoint(result, folder)
    log.finish(**(getattr(result, "return_value", None) or {"epochs": [], "final": result.metrics or {}}))
    return Outcome(log.final, checkpoint)


def _keep_checkpoint(result: ray.train.Result, folder: Path) -> Path:
    if result.checkpoint is None:
        raise ClusterError("A finished training must leave a checkpoint; Ray Train reported none.")
    kept = folder / CHECKPOINT_FOLDER
    with storage_errors(kept):
        kept.mkdir(exist_ok=True)
        pyarrow.fs.copy_files(
            result.checkpoint.path, str(kept), source_filesystem=result.checkpoint.filesystem,
            destination_filesystem=pyarrow.fs.LocalFileSystem(),
        )  # fmt: skip
    return kept
