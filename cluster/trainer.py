"""The Ray Train trainer of one configuration: what a search uses for trials of several workers, and ``launch`` for all.

The trainer's run is resumed by its name: the same name and storage go on from the last checkpoint, and a run that had
finished gives its result again without training. So a name stands for one training, never for two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ray.train
import ray.train.torch

from htt.config import Config
from htt.errors import HTTError
from htt.training.worker import train_loop

WORKER_FAILURES = 3
"""How often a training goes on from its last checkpoint after losing a worker."""


class GiveUp(ray.train.UserCallback):
    """Ends a training at once for an error that would only repeat itself; lost workers are still replaced."""

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:  # noqa: ARG002
        """Called by Ray Train, on the controller; what it raises ends the run."""
        for error in worker_exceptions.values():
            if ours := our_error(error):
                raise ours


def our_error(error: BaseException) -> HTTError | None:
    """The error of the project behind one of Ray's, if there is one."""
    seen, found = set(), [error]
    while found:
        here = found.pop()
        if isinstance(here, HTTError):
            return here
        seen.add(id(here))
        inner = [here.__cause__, *(getattr(here, name, None) for name in ("_base_exc", "cause", "controller_failure"))]
        inner += dict(getattr(here, "worker_failures", {})).values()
        found += [one for one in inner if isinstance(one, BaseException) and id(one) not in seen]
    return None


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
    test: bool = False,
) -> ray.train.torch.TorchTrainer:
    """A trainer over ``workers`` processes; ``.fit()`` runs it.

    Args:
        config: the training, completely; ``train.batch_size`` is over all workers.
        workers: processes, one at least.
        storage: folder or URI below which the run keeps its checkpoints.
        name: of the run, unique below ``storage``.
        cpus_per_worker: cores of each worker, and its threads.
        gpus_per_worker: GPUs of each worker; fractions share one.
        callbacks: told of every report, on the controller.
        folder: where the first worker writes TensorBoard files; none: nowhere that lasts.
        test: whether to evaluate the test split at the end.
    """
    use_gpu = gpus_per_worker > 0
    resources = {"CPU": cpus_per_worker, **({"GPU": gpus_per_worker} if use_gpu else {})}
    told: list[Any] = [GiveUp(), *callbacks]  # Ray's annotations name the callbacks of its older version
    job: dict[str, Any] = {"config": config.model_dump(mode="json"), "folder": folder, "test": test}
    return ray.train.torch.TorchTrainer(
        train_loop,  # type: ignore[arg-type]  # what it returns comes back as the result's return_value
        train_loop_config=job,
        torch_config=ray.train.torch.TorchConfig(backend="nccl" if use_gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=use_gpu, resources_per_worker=resources),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=storage,
            callbacks=told,
            failure_config=ray.train.FailureConfig(max_failures=WORKER_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=config.runtime.keep_checkpoints),
        ),
    )
