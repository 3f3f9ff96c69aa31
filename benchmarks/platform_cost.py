"""Cost of the platform for a trial: time from its last step to the next one's first, and memory over 50 trials.

::

    python benchmarks/platform_cost.py                 # plain trials, then Ray Train
    python benchmarks/platform_cost.py --trials 50 --group-trials 4

The training is trivial: a small network, three epochs of one step, a checkpoint each. Every trial of a process notes
when its first step begins and its last one ends; the time between is the platform's.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # benchmarks/ holds no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time

from benchmarks.result import header, write
from htt.config import Config, from_plain
from tune.execution import search as search_execution
from tune.execution.trainable import TrialFunctions
from tune.experiments import spec
from tune.experiments.space import LogUniform, Space

EPOCHS = 3
EVENTS = "events.jsonl"
SPACE = Space({"optim.lr": LogUniform(1e-4, 1e-2)}, base={"train.epochs": EPOCHS})


def train(config: Config, folder: Path, report, resume: Path | None = None) -> None:  # noqa: ARG001
    """Train almost nothing, and record the time, the process and its memory."""
    import torch

    began = time.time()
    model = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Linear(1024, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optim.lr)
    for epoch in range(1, EPOCHS + 1):
        loss = (model(torch.randn(64, 1024)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        saved = folder / f"epoch-{epoch}"
        saved.mkdir(parents=True, exist_ok=True)
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved / "state.pt")
        if epoch == EPOCHS:
            note(config, {"pid": os.getpid(), "began": began, "ended": time.time(), "rss": resident_bytes()})
        report({"epoch": epoch, "hand_error_mm": loss.item()}, saved)


def trainer(config: Config, *, workers, cpus_per_worker, gpus_per_worker, storage, name, callbacks, folder):  # noqa: ARG001
    """Return a Ray Train run of the same."""
    import ray.train
    import ray.train.torch

    resources = {"CPU": cpus_per_worker}
    return ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={"config": config.model_dump(mode="json"), "folder": folder},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, resources_per_worker=resources),
        run_config=ray.train.RunConfig(name=name, storage_path=storage, callbacks=callbacks),
    )


def train_loop(job: dict) -> None:
    """Run on each worker."""
    import ray.train

    rank = ray.train.get_context().get_world_rank()

    def report(metrics: dict, saved: Path) -> None:
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(str(saved)) if rank == 0 else None)

    train(from_plain(job["config"]), Path(job["folder"]) / str(rank), report)


def prepare(config: Config) -> None:
    """Prepare nothing, and record the start of the search."""
    note(config, {"start": time.time()})


TRAINING = TrialFunctions(train, trainer, prepare)


def note(config: Config, event: dict) -> None:
    """Write an event to the cache folder, where ``measure`` reads it."""
    folder = Path(str(config.runtime.cache))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / EVENTS).open("a") as file:
        file.write(json.dumps(event) + "\n")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(folder: Path, name: str, trials: int, workers: int) -> tuple[list[dict], float]:
    """Run a search; return its events, and the time of its last results."""
    cache = folder / f"{name}-cache"
    search = spec.SearchSpec(
        space="cost",
        name=name,
        trials=trials,
        workers_per_trial=workers,
        scheduler="none",
        algorithm="random",
    ).over(SPACE, {"runtime.cache": str(cache)})
    outcome = search_execution.run(search, runs=folder, training=TRAINING)
    ended = max(trial.finished_s for trial in outcome.trials)
    return [json.loads(line) for line in (cache / EVENTS).read_text().splitlines()], ended


def gaps(events: list[dict]) -> list[float]:
    """Return the times between a trial's last step and the next one's first in each process, s."""
    found = []
    for pid in {event["pid"] for event in events}:
        own = sorted((event for event in events if event["pid"] == pid), key=lambda event: event["began"])
        found += [later["began"] - earlier["ended"] for earlier, later in itertools.pairwise(own)]
    return found


def spread(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=20) if len(values) > 1 else values * 19
    return f"{statistics.median(values):.2f} s (5 % to 95 %: {cuts[0]:.2f} to {cuts[-1]:.2f}, {len(values)} trials)"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--group-trials", type=int, default=4)
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        plain, _ = measure(Path(scratch), "plain", options.trials, 1)
        group, _ = measure(Path(scratch), "group", options.group_trials, 2)
    trials = [event for event in plain if "pid" in event]
    memory = {}
    for pid in {event["pid"] for event in trials}:
        memory[pid] = [event["rss"] / 2**20 for event in trials if event["pid"] == pid]
    first = min(event["began"] for event in trials) - plain[0]["start"]
    steps = sorted((event for event in group if "pid" in event), key=lambda event: event["began"])
    firsts = [event for number, event in enumerate(steps) if number % 2 == 0]  # of the two workers of a trial
    lasts = [max(steps[number : number + 2], key=lambda event: event["ended"]) for number in range(0, len(steps), 2)]
    between = [later["began"] - earlier["ended"] for earlier, later in zip(lasts, firsts[1:], strict=False)]
    lines = [
        *header("What the platform costs a trial", "python benchmarks/platform_cost.py"),
        "From a trial's last step to the next one's first, in the same process.",
        "",
        "| what | measured | to reach |",
        "| --- | --- | --- |",
        f"| plain trial after the first, processes reused | {spread(gaps(trials))} | under 0.5 s |",
        f"| first plain trial, from when the data are ready | {first:.1f} s | |",
        f"| trial of two workers by Ray Train | {spread(between)} | under 13 s |",
        f"| first trial by Ray Train | {firsts[0]['began'] - group[0]['start']:.1f} s | under 13 s |",
        "",
        "Memory of the processes that train, MiB, from their second trial to their last: "
        + "; ".join(
            f"{own[1]:.0f} to {own[-1]:.0f} (most {max(own):.0f}) over {len(own)} trials" for own in memory.values()
        )
        + ".",
    ]
    write("platform_cost", lines, keep=not options.no_result)
    return 0


if __name__ == "__main__":  # workers import this file by its name, so it runs under its name too
    from benchmarks import platform_cost

    sys.exit(platform_cost.main(sys.argv[1:]))
