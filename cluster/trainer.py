"""The Ray Train trainer of one configuration: what a search uses for trials of several workers, and ``launch`` for all.

The trainer's run is resumed by its name: the same name and storage go on from the last checkpoint, and a run that had
finished gives its result again without training. So a name stands for one training, never for two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ray.train
import ray.train.torch
import ray.util.queue

from cluster import stores
from htt.config import Config
from htt.training.worker import GiveUp, torch_trainer, train_loop


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
    """A trainer over ``workers`` processes; ``.fit()`` runs it.

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
    told: list[Any] = [GiveUp(), *callbacks]  # Ray's annotations name the callbacks of its older version
    job: dict[str, Any] = {"config": config.model_dump(mode="json"), "folder": folder, "queue": queue, "ready": ready}
    run = ray.train.RunConfig(
        name=name,
        **stores.for_ray(storage),
        callbacks=told,
        failure_config=ray.train.FailureConfig(max_failures=-1),  # GiveUp counts those without progress between
        checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.runtime.keep_checkpoints),
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
