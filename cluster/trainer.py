"""The Ray Train trainer of one configuration: what a search uses for trials of several workers, and ``launch`` for all.

The trainer's run is resumed by its name: the same name and storage go on from the last checkpoint, and a run that had
finished gives its result again without training. So a name stands for one training, never for two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import ray.train
import ray.train.torch
import ray.util.queue
from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import _CheckpointManagerState

from cluster import storage as stores
from htt import console
from htt.config import Config
from htt.training import older
from htt.training.worker import GiveUp, torch_trainer, train_loop

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's list of the checkpoints of a run. It is written in place, so a kill or a full disk may cut it short."""


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
    """A trainer over ``workers`` processes; ``.fit()`` runs it. A damaged list of its checkpoints is mended first.

    Args:
        config: the training, completely.
        workers: processes, one at least.
        storage: folder or URI below which the run keeps its checkpoints.
        name: of the run, unique below ``storage``.
        cpus_per_worker: cores of each worker, and its threads.
        gpus_per_worker: GPUs of each worker; fractions share one.
        callbacks: told of every report, on the controller.
        folder: where the first worker writes TensorBoard files; none: nowhere that lasts.
        least: fewer workers will do, down to that many; none: all or nothing.
        queue: of a final training, which tells it when it starts; none: of a trial.
        ready: called by every worker that begins; raises where its machine is not ready.
    """
    mend_snapshot(stores.below(storage, name))
    told: list[Any] = [GiveUp(), *callbacks]  # Ray's annotations name the callbacks of its older version
    job: dict[str, Any] = {"config": config.model_dump(mode="json"), "folder": folder, "queue": queue, "ready": ready}
    run = ray.train.RunConfig(
        name=name,
        **stores.for_ray(storage),
        callbacks=told,
        failure_config=ray.train.FailureConfig(max_failures=-1),  # GiveUp counts those without progress between
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


def mend_snapshot(place: str) -> None:
    """Write Ray Train's list of checkpoints again where it cannot be read or names one that is gone, and say so.

    Args:
        place: of the run, a folder or URI.

    Raises:
        StorageError: the place refuses, or does not answer.
    """
    file, names = stores.below(place, SNAPSHOT), stores.ask(place, lambda system, path: older.listed(path, system))
    try:
        text = stores.read_text(file)
    except UnicodeDecodeError:
        text = ""
    if text is None or _is_whole(text, names):
        return
    results = [{"checkpoint_dir_name": name, "metrics": _metrics(stores.below(place, name))} for name in names]
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
    stores.write_text(file, state.model_dump_json())
    found = f"goes on from {names[-1]}" if names else "begins anew"
    console.err.print(f"{file} was damaged and is written again; the training {found}.", markup=False)


def _is_whole(text: str, names: Sequence[str]) -> bool:
    """True for a list that Ray Train takes, of checkpoints that are there."""
    try:
        state = _CheckpointManagerState.model_validate_json(text)
    except ValueError:  # no JSON, or without some of its fields
        return False
    return {each.checkpoint_dir_name for each in state.checkpoint_results} <= set(names)


def _metrics(checkpoint: str) -> dict[str, Any]:
    """Return the metrics that were saved with a checkpoint; nothing where it cannot be read."""
    try:
        return dict(
            json.loads(stores.read_text(stores.below(checkpoint, "checkpoint.json")) or "{}").get("metrics", {})
        )
    except ValueError:
        return {}
