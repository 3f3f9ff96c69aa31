"""Stand-in for the project's training: a learning curve of the learning rate, without torch. Workers import it."""

import contextlib
import json
import math
import os
import tempfile
import time
from pathlib import Path

import polars as pl

from cluster.storage import ray_storage
from htt.config import Config, from_plain
from htt.errors import DamagedCheckpointError, NonFiniteLossError
from tune.execution.trainable import TrialFunctions
from tune.experiments.space import Choice, LogUniform, Space

BASE = {"train.epochs": 4, "model.width": 64}
SPACE = Space(
    {"optim.lr": LogUniform(1e-5, 1e-1), "model.action.cues": Choice(["hands"], ["hands", "object"])}, base=BASE
)


def curve(config: Config, epoch: int) -> float:
    """Return the error after an epoch: least near a rate of 1e-3, and less with every epoch."""
    of_seed = config.train.seed / 100 if epoch > 1 else 0.0
    return 20 + 10 * abs(math.log10(config.optim.lr / 1e-3)) + 40 / epoch + of_seed


def clips_of(config: Config, epoch: int) -> dict[str, list]:
    """Return the results of four clips; their mean error is that of the curve."""
    away = [-3.0, -1.0, 1.0, 3.0]
    errors = [curve(config, epoch) + each for each in away]
    return {"clip": ["c0", "c1", "c2", "c3"], "hand_error_mm": errors, "correct": [True, False, False, True]}


def metrics_of(config: Config, epoch: int) -> dict[str, float]:
    error = curve(config, epoch)
    return {
        "epoch": epoch,
        "loss": error / 10,
        "hand_error_mm": error,
        "action_accuracy": 1 / error,
        "object_accuracy": 0.5,
        "parameters": 1000.0 * config.model.width,
        "latency_ms": len(config.model.action.cues) * 10.0,
        "seconds": 0.01,
    }


def train(config: Config, folder: Path, report, resume: Path | None = None) -> None:
    start = epoch_of(resume) if resume else 0
    given = {"threads": os.environ["OMP_NUM_THREADS"], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
    note(config, {"pid": os.getpid(), "start": start, "trial": folder.name, **given})
    for epoch in range(start + 1, config.train.epochs + 1):
        note(config, {"epoch": epoch, "trial": folder.name})
        time.sleep(config.optim.step_epochs / 1000)
        wait_while_held(config, epoch)
        misbehave(config, epoch, folder)
        saved = folder / "checkpoints" / f"epoch-{epoch}"
        saved.mkdir(parents=True, exist_ok=True)
        (saved / "state.json").write_text(json.dumps({"epoch": epoch}))
        pl.DataFrame(clips_of(config, epoch)).write_parquet(saved / "clips.parquet")
        silent = {"hand_error_mm"} if config.optim.momentum == 0.5 and epoch == 2 else set()
        report({name: value for name, value in metrics_of(config, epoch).items() if name not in silent}, saved)


def epoch_of(resume: Path) -> int:
    """Return the epoch of a checkpoint, which a test may have damaged."""
    try:
        return json.loads((resume / "state.json").read_text())["epoch"]
    except ValueError as error:
        raise DamagedCheckpointError("Its state is spoilt.") from error


def diverges(config: Config) -> bool:
    """Return True if the training diverges in its second epoch."""
    ailing = config.optim.momentum == 0.4 and Path(config.runtime.cache, "ailing").exists()
    return config.optim.momentum == 0.1 or ailing


def misbehave(config: Config, epoch: int, folder: Path) -> None:
    """Fail as the optimiser's momentum says: 0.1 diverges, 0.2 crashes each time, 0.3 dies once, 0.4 ails.

    With 0.5 an epoch gives no hand error.
    What ails diverges for as long as a test has a file ``ailing`` in the cache.
    """
    if epoch != 2:
        return
    if diverges(config):
        raise NonFiniteLossError(epoch, 7, ["action"])
    if config.optim.momentum == 0.2:
        raise ValueError("a bug")
    mark = folder / "died"
    if config.optim.momentum == 0.3 and not mark.exists():
        mark.touch()
        os._exit(9)


def wait_while_held(config: Config, epoch: int) -> None:
    """Wait while a file in the cache, made by a test, holds all trainings in this epoch."""
    while config.runtime.cache and (Path(config.runtime.cache) / f"hold-{epoch}").exists():
        time.sleep(0.05)


def prepare(config: Config) -> None:
    note(config, {"prepared": True})


def note(config: Config, event: dict) -> None:
    """Write an event where ``events`` finds it; nothing else uses the cache folder here."""
    if config.runtime.cache:
        with place(Path(config.runtime.cache)).open("a") as file:
            file.write(json.dumps(event) + "\n")


def place(cache: Path) -> Path:
    """Return the file of the events: the cache itself, or a file in it if it is a folder."""
    return cache / "events" if cache.is_dir() else cache


def events(cache: Path) -> list[dict]:
    return [json.loads(line) for line in place(cache).read_text().splitlines()]


def trainer(config, *, workers, cpus_per_worker, gpus_per_worker, storage, name, callbacks, folder):
    import ray.train
    from ray.train.torch import TorchTrainer

    return TorchTrainer(
        train_loop,
        train_loop_config={"config": config.model_dump(mode="json"), "folder": folder},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker={"CPU": cpus_per_worker}),
        run_config=ray.train.RunConfig(
            name=name,
            **ray_storage(storage),
            callbacks=callbacks,
            failure_config=ray.train.FailureConfig(max_failures=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
        ),
    )


def train_loop(job: dict) -> None:
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    kept = ray.train.get_checkpoint()

    def report(metrics: dict, saved: Path) -> None:
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(str(saved)) if rank == 0 else None)

    where = f"{ray.train.get_context().get_experiment_name()}-rank-{rank}"
    folder = Path(job["folder"] or tempfile.mkdtemp()) / where
    with kept.as_directory() if kept else contextlib.nullcontext() as resume:
        train(from_plain(job["config"]), folder, report, Path(resume) if resume else None)


TRAINING = TrialFunctions(train, trainer, prepare)
