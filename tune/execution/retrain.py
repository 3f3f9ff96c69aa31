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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from cluster import connect, progress, resources
from cluster import training as final
from cluster.preflight import check
from cluster.run_folder import BEGAN_FILE, CONFIG_FILE, METRICS_FILE, check_folder, claim_folder
from htt import console, driver_log
from htt.config import Config, from_plain
from htt.data.prepare import prepare
from htt.errors import HTTError, TrainingError
from htt.parallel import out_of_memory
from htt.text import plural
from htt.training.worker import listening, our_error
from tune.execution import experiment
from tune.reports import retrain
from tune.results.retrain import RECORD_FILE, Retrained, fetch
from tune.results.sync import Storage

POLL_S = 1.0
Train = Callable[..., Any]
"""Type of ``cluster.training.run`` or of a stand-in for it."""


@dataclass(frozen=True)
class Training:
    """Functions that a retraining calls: the project's final training, or stand-ins for it."""

    train: Train = final.run
    prepare: Callable[[Config], Any] = prepare


def run(
    asked: Retrained,
    place: Storage,
    workers: final.Workers,
    *,
    address: str | None = None,
    max_concurrent: int | None = None,
    training: Training | None = None,
    show: Console = console.out,
) -> Retrained:
    """Train the seeds that are left, write the report, and return the result, including failed seeds.

    Args:
        asked: the retraining.
        place: its folder, and the folder's mirror in a bucket.
        workers: workers of each training.
        address: address of a Ray cluster, or None for this machine.
        max_concurrent: maximum number of trainings at once, or None for as many as fit.
        training: training functions, or None for the project's own.
        show: console for progress.

    Raises:
        ClusterError, DataError, RunError, StorageError: the request is invalid; nothing was started.
    """
    training = training or Training()
    place.check()
    with place.lock():
        try:
            fetch(place, locked=True)  # again: another machine may have worked on it meanwhile
            if asked.left:
                asked = _train_left(asked, place, workers, training, show, address, max_concurrent)
            asked.write()
            retrain.write(asked)
        finally:
            place.discard_if_empty()
        place.push_reports()
    return asked


def check_all(found: Retrained) -> None:
    """Raise one error for all failed seeds.

    Raises:
        TrainingError: a training failed for a reason that the user cannot correct.
        UserError: every failed seed failed with an error that the user can correct.
    """
    if not found.failed:
        return
    said = "\n".join(f"  - seed {seed}: {error}" for seed, error in found.failed.items())
    raise experiment.kind_of([found.failed_kinds.get(seed) for seed in found.failed])(
        f"All seeds must come to their end; {len(found.failed)} of {len(found.seeds)} did not. The same command tries "
        f"them again.\n{said}"
    )


def _train_left(
    asked: Retrained,
    place: Storage,
    workers: final.Workers,
    training: Training,
    show: Console,
    address: str | None,
    max_concurrent: int | None,
) -> Retrained:
    left = asked.left
    for seed in left:
        folder = asked.folder(seed)
        check_folder(folder, asked.config_of(seed), resume=(folder / CONFIG_FILE).exists())
    check.check_backbones([asked.config.model.backbone])
    show.print(f"Starting on {connect.place(address)} ...")
    with connect.connect(address):
        workers = workers.settled()
        fitting = resources.require(workers.resources, workers.count)
        at_once = min(fitting, max_concurrent or fitting, len(left))
        check.check([asked.config], storage=place.uri, workers=workers.count, gpus=workers.gpus or 0.0, show=show)
        training.prepare(asked.config)
        for seed in left:
            claim_folder(asked.folder(seed), asked.config_of(seed))
        asked = replace(asked, failed={}, failed_kinds={})
        asked.write()
        place.push(RECORD_FILE)
        show.print(
            f"Training {plural(asked.config.train.epochs, 'epoch')} with {plural(len(left), 'fresh seed')} "
            f"({', '.join(map(str, left))}), {at_once} at once; files in {asked.path}"
        )
        with driver_log.written(asked.path):
            failed = _train_together(asked, place, workers, training.train, at_once, show)
        kinds = {seed: type(error).__name__ for seed, error in failed.items()}
        said = {seed: f"{kinds[seed]}: {error}" for seed, error in failed.items()}
        return replace(asked, failed=said, failed_kinds=kinds)


def _train_together(
    asked: Retrained, place: Storage, workers: final.Workers, train: Train, at_once: int, show: Console
) -> dict[int, HTTError]:
    """Train all seeds, and return {seed: its error}; a failed seed does not stop the others."""
    epochs, waiting = asked.config.train.epochs, asked.left
    failed: dict[int, HTTError] = {}
    began = said = time.monotonic()

    def tell(message: tuple[int, Mapping[str, float]]) -> None:
        nonlocal said
        seed, metrics = message
        said = time.monotonic()
        show.print(f"seed {seed}  {progress.epoch_line(metrics, epochs)}", markup=False)

    with listening(console.harmless(tell)) as queue, _cancelled_at_the_end() as running:
        while waiting or running:
            while waiting and len(running) < at_once:
                seed = waiting.pop(0)
                running[_start(asked, seed, place, workers, train, queue)] = seed
            place.check_mine()
            done, _ = ray.wait(list(running), timeout=POLL_S)
            now = time.monotonic()
            if now - said > console.pause(now - began):
                said = now
                seeds, count = ", ".join(map(str, sorted(running.values()))), f"{len(asked.done)} of {len(asked.seeds)}"
                show.print(f"{console.clock(now - began)}  {count} done, training seed {seeds}", markup=False)
            for reference in done:
                seed = running.pop(reference)
                why = _failure(reference)
                if why:
                    failed[seed] = why
                place.push(*(f"seed-{seed}/{name}" for name in (BEGAN_FILE, CONFIG_FILE, METRICS_FILE)))
                fate = (
                    f"failed: {type(why).__name__}: {why}" if why else f"done, {len(asked.done)} of {len(asked.seeds)}"
                )
                show.print(f"seed {seed}  {fate}", markup=False)
    return dict(sorted(failed.items()))


def _failure(reference: Any) -> HTTError | None:
    """Return the error of a task, or None if it succeeded."""
    try:
        ray.get(reference)
    except Exception as error:  # any error concerns this seed only and is reported at the end
        cause = getattr(error, "cause", error)  # Ray's error is also of the cause's class, with a traceback as text
        return our_error(cause) or TrainingError(f"The training stopped: {_last_line(cause)}")
    return None


def _start(asked: Retrained, seed: int, place: Storage, workers: final.Workers, train: Train, queue: Any) -> Any:
    """Start a seed's training in its own process on this machine, as its log of epochs is a local file."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    task: Any = ray.remote(_train_seed)
    job = {
        "config": asked.config_of(seed).model_dump(mode="json"),
        "folder": str(asked.folder(seed).resolve()),
        "storage": place.uri if place.remote else None,
        "seed": seed,
    }
    return task.options(num_cpus=0, max_retries=0, scheduling_strategy=here).remote(train, workers, job, queue)


def _train_seed(train: Train, workers: final.Workers, job: Mapping[str, Any], queue: Any) -> None:
    def on_epoch(metrics: dict[str, float]) -> None:
        queue.put((job["seed"], metrics))

    train(from_plain(job["config"], Config), Path(job["folder"]), workers, on_epoch, storage=job["storage"])


@contextmanager
def _cancelled_at_the_end() -> Iterator[dict[Any, int]]:
    """Yield {task: seed} of running tasks; at the end, cancel those left with their workers, as after Ctrl-C."""
    running: dict[Any, int] = {}
    try:
        yield running
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _last_line(error: BaseException) -> str:
    if memory := out_of_memory(f"{type(error).__name__}: {error}"):
        return memory
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
