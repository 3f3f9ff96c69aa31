"""Ray Train trainer of one configuration, for trials with several workers and for all final trainings.

A run is resumed by its name: with the same name and storage it resumes from the last checkpoint, and a finished run
returns its result without training. So each name must be used for one training only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import ray.train
import ray.train.torch
import ray.util.queue
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import _CheckpointManagerState

from cluster.storage import join_uri, ray_storage, read_text, request, write_text
from htt import console
from htt.config import Config
from htt.training import older
from htt.training.worker import GiveUp, torch_trainer, train_loop

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of a run's checkpoints. It is not written atomically: a kill or a full disk may truncate it."""


def trainer(
    config: Config,
    *,
    workers: int,
    storage: str,
    name: str,
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
    callbacks: Sequence[ray.train.UserCallback] = (),
    folder: str | None = None,
    least: int | None = None,
    queue: ray.util.queue.Queue | None = None,
    ready: Callable[[], None] | None = None,
) -> ray.train.torch.TorchTrainer:
    """Return a trainer with ``workers`` processes, to be run by ``.fit()``; repair a damaged checkpoint list first.

    Args:
        config: complete configuration of the training.
        workers: number of processes, at least 1.
        storage: folder or URI below which the run keeps its checkpoints.
        name: name of the run, unique below ``storage``.
        cpus_per_worker: cores of each worker, and its threads.
        gpus_per_worker: GPUs of each worker; workers with fractions share one GPU.
        callbacks: Ray Train callbacks, run on the controller.
        folder: folder for the first worker's TensorBoard files, or None if none are to be kept.
        least: minimum number of workers, or None if exactly ``workers`` are needed.
        queue: queue for the messages of a final training, or None for a trial.
        ready: called by every worker when it starts; raises if its machine is not ready.

    Raises:
        StorageError: the storage refused, or did not answer.
    """
    repair_snapshot(join_uri(storage, name))
    ray_callbacks: list[Any] = [GiveUp(), *callbacks]  # Ray's annotations are those of callbacks of its older version
    job: dict[str, Any] = {"config": config.model_dump(mode="json"), "folder": folder, "queue": queue, "ready": ready}
    run = ray.train.RunConfig(
        name=name,
        **ray_storage(storage),
        callbacks=ray_callbacks,
        failure_config=ray.train.FailureConfig(max_failures=-1),  # GiveUp limits failures without progress between them
        checkpoint_config=ray.train.CheckpointConfig(num_to_keep=max(older.KEPT, config.runtime.keep_checkpoints)),
    )
    return torch_trainer(
        train_loop,
        job,
        run,
        workers=workers,
        least=least,
        resize_s=config.runtime.resize_minutes * 60,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
    )


def repair_snapshot(run: str) -> None:
    """Rewrite Ray Train's checkpoint list if it is invalid or names a missing checkpoint, and print a message.

    Args:
        run: folder or URI of the run.

    Raises:
        StorageError: the storage refused, or did not answer.
    """
    file, names = join_uri(run, SNAPSHOT), request(run, lambda system, path: older.listed(path, system))
    try:
        text = read_text(file)
    except UnicodeDecodeError:
        text = ""
    if text is None or _is_valid(text, names):
        return
    results = [{"checkpoint_dir_name": name, "metrics": _metrics(join_uri(run, name))} for name in names]
    state = _CheckpointManagerState(
        checkpoint_results=results,
        checkpoint_report_indices=list(range(len(names))),
        latest_checkpoint_result=results[-1] if results else None,
        current_report_index=len(names),
        pending_training_results=[],
        pending_validation_specs=[],
        validated_checkpoint_dir_names=[],
        timed_out_validation_checkpoint_dir_names=[],
        failed_validation_checkpoint_dir_names=[],
    )
    write_text(file, state.model_dump_json())
    start = f"resumes from {names[-1]}" if names else "starts from the first epoch"
    console.err.print(f"{file} was damaged and has been repaired; the training {start}.", markup=False)


def _is_valid(text: str, names: Sequence[str]) -> bool:
    """Return True if Ray Train can read the list and all its checkpoints exist."""
    try:
        state = _CheckpointManagerState.model_validate_json(text)
    except ValueError:  # invalid JSON, or fields are missing
        return False
    return {each.checkpoint_dir_name for each in state.checkpoint_results} <= set(names)


def _metrics(checkpoint: str) -> dict[str, Any]:
    """Return the metrics that were saved with a checkpoint, or an empty dict if they are missing or invalid."""
    try:
        record = json.loads(read_text(join_uri(checkpoint, "checkpoint.json")) or "{}")
        return dict(record.get("metrics", {}))
    except ValueError:
        return {}
