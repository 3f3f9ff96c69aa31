"""Final trainings of one configuration with fresh seeds, several at once, as ``cluster/launch.py`` trains each.

A retraining differs from a study: a study's trials use no test split and keep no model, and its variants are compared.
A retraining measures how much the final training varies with the seed. Each seed therefore runs
``cluster.training.run``, as ``launch`` does, with its folder, checkpoint and test split. Starting Ray Train takes about
ten seconds for each.

Each training runs in a process of its own on this machine, which starts its workers on any node with free resources. A
finished seed is never trained again, and an interrupted one resumes from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from cluster import connect, progress, resources
from cluster import training as final
from cluster.preflight import check
from cluster.run_folder import CONFIG_FILE, METRICS_FILE, ORIGIN_FILE, check_folder, write_folder
from htt import console, driver_log
from htt.config import Config, from_plain
from htt.errors import HTTError, TrainingError
from htt.parallel import out_of_memory
from htt.text import plural
from htt.training.encoding import data_folder
from htt.training.worker import listening, our_error
from tune.execution import runner
from tune.reports import retrain
from tune.results.retrain import RECORD_FILE, Retraining, fetch
from tune.results.sync import Storage

POLL_S = 1.0
Train = Callable[..., Any]
"""Type of ``cluster.training.run`` or of a stand-in for it."""


@dataclass(frozen=True)
class RetrainFunctions:
    """Functions that a retraining calls: the project's final training, or stand-ins for it."""

    train: Train = final.run
    prepare: Callable[[Config], Any] = data_folder


def run(
    retraining: Retraining,
    storage: Storage,
    workers: final.Workers,
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    training: RetrainFunctions | None = None,
    show: Console = console.out,
) -> Retraining:
    """Train the seeds that are left, write the report, and return the result, including failed seeds.

    Args:
        retraining: the retraining.
        storage: its folder, and the folder's mirror in a bucket.
        workers: workers of each training.
        address: address of a Ray cluster, or None for this machine.
        max_concurrent: maximum number of trainings at once, or None for as many as fit.
        training: training functions, or None for the project's own.
        show: console for progress.

    Raises:
        ClusterError, DataError, RunError, StorageError: the request is invalid; nothing was started.
    """
    storage.check()
    with storage.lock():
        try:
            fetch(storage, locked=True)  # again: another machine may have worked on it meanwhile
            if retraining.left:
                running = _RetrainExperiment(retraining, storage, workers, training or RetrainFunctions(), show)
                retraining = running.train_left(address, max_concurrent)
            retraining.write()
            retrain.write(retraining)
        finally:
            storage.discard_if_empty()
        storage.push_reports()
    return retraining


def check_all(retraining: Retraining) -> None:
    """Raise one error for all failed seeds.

    Raises:
        TrainingError: a training failed for a reason that the user cannot correct.
        UserError: every failed seed failed with an error that the user can correct.
    """
    failed = retraining.failed
    if failed:
        lines = "\n".join(f"  - seed {seed}: {error}" for seed, error in failed.items())
        raise runner.kind_of([retraining.failed_kinds.get(seed) for seed in failed])(
            f"{len(failed)} of {len(retraining.seeds)} seeds failed. Repeat the same command to retry them.\n{lines}"
        )


@dataclass(frozen=True)
class _RetrainExperiment:
    """Retraining that is being run."""

    retraining: Retraining
    storage: Storage
    workers: final.Workers
    training: RetrainFunctions
    show: Console

    def train_left(self, address: str | None, max_concurrent: int | None) -> Retraining:
        """Train the seeds that are left, and return the retraining with those that failed."""
        retraining, storage, left = self.retraining, self.storage, self.retraining.left
        for seed in left:
            folder = retraining.folder(seed)
            check_folder(folder, retraining.config_of(seed), resume=(folder / CONFIG_FILE).exists())
        check.check_backbones([retraining.config.model.backbone])
        self.show.print(f"Starting on {connect.target(address)} ...")
        with connect.connect(address):
            workers = self.workers.settled()
            gpus = workers.gpus or 0.0
            fitting = resources.require(workers.resources, workers.count)
            at_once = min(fitting, max_concurrent or fitting, len(left))
            check.check([retraining.config], storage=storage.uri, workers=workers.count, gpus=gpus, show=self.show)
            self.training.prepare(retraining.config)
            for seed in left:
                write_folder(retraining.folder(seed), retraining.config_of(seed))
            retraining = replace(retraining, failed={}, failed_kinds={})
            retraining.write()
            storage.push(RECORD_FILE)
            self.show.print(
                f"Training {plural(retraining.config.train.epochs, 'epoch')} with {plural(len(left), 'fresh seed')} "
                f"({', '.join(map(str, left))}), {at_once} at once; files in {retraining.path}"
            )
            with driver_log.written(retraining.path):
                failed = replace(self, retraining=retraining, workers=workers).train_together(at_once)
        kinds = {seed: type(error).__name__ for seed, error in failed.items()}
        messages = {seed: f"{kinds[seed]}: {error}" for seed, error in failed.items()}
        return replace(retraining, failed=messages, failed_kinds=kinds)

    def train_together(self, at_once: int) -> dict[int, HTTError]:
        """Train the seeds, and return {seed: its error}; a failed seed does not stop the others."""
        epochs, waiting = self.retraining.config.train.epochs, self.retraining.left
        failed: dict[int, HTTError] = {}
        running: dict[Any, int] = {}
        started = printed = time.monotonic()

        def on_epoch(message: tuple[int, Mapping[str, float]]) -> None:
            nonlocal printed
            seed, metrics = message
            printed = time.monotonic()
            self.show.print(f"seed {seed}  {progress.epoch_line(metrics, epochs)}", markup=False)

        with listening(console.harmless(on_epoch)) as queue:
            try:
                while waiting or running:
                    while waiting and len(running) < at_once:
                        seed = waiting.pop(0)
                        running[self.start(seed, queue)] = seed
                    self.storage.check_lease()
                    ended, _ = ray.wait(list(running), timeout=POLL_S)
                    now = time.monotonic()
                    if now - printed > console.pause(now - started):
                        printed = now
                        seeds = ", ".join(map(str, sorted(running.values())))
                        self.show.print(
                            f"{console.clock(now - started)}  {self.count()} done, training seed {seeds}", markup=False
                        )
                    for reference in ended:
                        seed = running.pop(reference)
                        if error := self.end(seed, reference):
                            failed[seed] = error
            finally:
                for reference in running:  # with their workers, as after Ctrl-C
                    ray.cancel(reference, force=True)
        return dict(sorted(failed.items()))

    def start(self, seed: int, queue: Any) -> Any:
        """Start a seed's training in its own process on this machine, as its log of epochs is a local file."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        task: Any = ray.remote(_train_seed)
        job = {
            "config": self.retraining.config_of(seed).model_dump(mode="json"),
            "folder": str(self.retraining.folder(seed).resolve()),
            "storage": self.storage.uri if self.storage.remote else None,
            "seed": seed,
        }
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": here}
        return task.options(**options).remote(self.training.train, self.workers, job, queue)

    def end(self, seed: int, reference: Any) -> HTTError | None:
        """Store the files of a seed whose task ended, and return its error, or None if it succeeded."""
        error = _failure(reference)
        self.storage.push(*(f"seed-{seed}/{name}" for name in (ORIGIN_FILE, CONFIG_FILE, METRICS_FILE)))
        outcome = f"failed: {type(error).__name__}: {error}" if error else f"done, {self.count()}"
        self.show.print(f"seed {seed}  {outcome}", markup=False)
        return error

    def count(self) -> str:
        """Return the number of finished seeds, as in "2 of 5"."""
        return f"{len(self.retraining.done)} of {len(self.retraining.seeds)}"


def _train_seed(train: Train, workers: final.Workers, job: Mapping[str, Any], queue: Any) -> None:
    def on_epoch(metrics: dict[str, float]) -> None:
        queue.put((job["seed"], metrics))

    train(from_plain(job["config"], Config), Path(job["folder"]), workers, on_epoch, storage=job["storage"])


def _failure(reference: Any) -> HTTError | None:
    """Return the error of a task, or None if it succeeded."""
    try:
        ray.get(reference)
    except Exception as error:  # any error concerns this seed only and is reported at the end
        cause = getattr(error, "cause", error)  # Ray's error is also of the cause's class, with a traceback as text
        name, lines = type(cause).__name__, [line.strip() for line in str(cause).splitlines() if line.strip()]
        reason = out_of_memory(f"{name}: {cause}") or (lines[-1] if lines else name)
        return our_error(cause) or TrainingError(f"The training stopped: {reason}")
    return None
