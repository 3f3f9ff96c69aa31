"""What runs on a worker: alone in this process, or as one of a Ray Train group.

Both roads lead to ``loop.fit`` with the same configuration, so they give the same numbers. This file is one of the two
in ``htt`` that know Ray.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from htt import parallel
from htt.config import Config, from_plain
from htt.data.clips import open_split
from htt.data.prepare import prepare
from htt.training import checkpoint as checkpoints
from htt.training.group import Group, best_device
from htt.training.loop import Report, Splits, evaluate, fit

TEST = "test"


def train(config: Config, folder: Path, report: Report, resume: Path | None = None) -> None:
    """Train alone in this process.

    Args:
        config: the training, completely.
        folder: where checkpoints and TensorBoard files go.
        report: takes each epoch's metrics and the folder of its checkpoint.
        resume: a checkpoint's folder to go on from.
    """
    fit(config, open_splits(config), report, folder=folder, group=Group(device=best_device()), resume=resume)


def open_splits(config: Config) -> Splits:
    """The training and validation clips of a configuration, rendered or checked first."""
    root = prepare(config)
    return Splits(open_split(root, "train"), open_split(root, "val"))


def train_loop(job: dict[str, Any]) -> dict[str, Any]:
    """``train_loop_per_worker`` of Ray Train: ``job`` is {"config": plain data, "test": evaluate the test split?}.

    Reports every epoch with its checkpoint, and goes on from the last one after a failure. Gives {"epochs": the metrics
    of every epoch, also of those before a failure, "final": the last ones, with the test split's under ``test_...`` if
    it was asked for}.
    """
    import ray.train

    config: Config = from_plain(job["config"])
    context = ray.train.get_context()
    parallel.use_given_cpus()
    group = Group(context.get_world_rank(), context.get_world_size(), _device())
    with tempfile.TemporaryDirectory(prefix="htt-") as scratch:
        resume = _resume_folder(Path(scratch))
        folder = Path(job.get("folder") or scratch)
        epochs = list(checkpoints.read(resume).progress.extra["epochs"]) if resume else []

        def report(metrics: dict[str, float], checkpoint: Path | None) -> None:
            epochs.append(metrics)
            kept = ray.train.Checkpoint.from_directory(str(checkpoint)) if checkpoint else None
            ray.train.report(metrics, checkpoint=kept)

        model = fit(config, open_splits(config), report, folder=folder, group=group, resume=resume)
        last = dict(epochs[-1])
        if job.get("test"):
            tested = evaluate(model, open_split(prepare(config), TEST), config, group=group)
            last.update({f"{TEST}_{name}": value for name, value in tested.result().items()})
    return {"epochs": epochs, "final": last}


def _resume_folder(scratch: Path) -> Path | None:
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    return Path(checkpoint.to_directory(str(scratch / "resume"))) if checkpoint else None


def _device() -> torch.device:
    import ray.train.torch

    return ray.train.torch.get_device()
