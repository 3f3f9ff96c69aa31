"""Cost of Ray: a step of Ray Train against plain ``torchrun`` of the same code, and a search against a bare loop.

::

    python benchmarks/train_overhead.py                (writes benchmarks/results/train_overhead.md)
    python benchmarks/train_overhead.py --rounds 1 --trials 2 --no-result

Steps: the same configuration is trained by ``torchrun`` and by ``cluster/launch.py``, in turn, with one worker and with
two; compared are the seconds of the training steps of an epoch, as ratios within a round. The first three epochs do not
count: some of the processes of a Ray and of a Train run still start then, and both cores are the workers'.

Trials: ``tune/search.py`` with random samples and without early stopping; then the same configurations one after the
other in as many plain processes as trials ran at once. Both have the data rendered before.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # benchmarks/ holds no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence

from benchmarks.result import header, write
from htt.config import Config, override, to_yaml
from htt.registry import preset
from tune.results.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[1]
CHANGED = {
    "data.synthetic.train_clips": 108,
    "data.synthetic.val_clips": 12,
    "data.synthetic.test_clips": 12,
    "train.batch_size": 4,
    "train.epochs": 8,
    "runtime.tensorboard": False,
}
FIRST = 3
"""Epochs that do not count."""
PLAIN = """
import json, os, sys
from pathlib import Path
import torch, torch.distributed
from htt.config import read
from htt.group import Group
from htt.training.tasks import open_splits
from htt.training.loop import fit
folder, rank, size = Path(sys.argv[1]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
torch.set_num_threads(1)
if size > 1:
    torch.distributed.init_process_group("gloo")
config, epochs = read(folder / "config.yaml"), []
fit(config, open_splits(config), lambda metrics, saved: epochs.append(metrics), folder=folder, group=Group(rank, size))
if rank == 0:
    (folder / "metrics.json").write_text(json.dumps({"epochs": epochs}))
if size > 1:
    torch.distributed.destroy_process_group()
"""
BARE = """
import sys
from pathlib import Path
import torch
from htt.config import read
from htt.training.tasks import train
torch.set_num_threads(1)
for file in sys.argv[1:]:
    train(read(file), Path(file).parent, lambda metrics, saved: None)
"""


def run(words: Sequence[str | Path], cwd: Path, **environment: str) -> float:
    """Return the seconds of a command, which must succeed."""
    began = time.monotonic()
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return time.monotonic() - began


def step_seconds(file: Path) -> float:
    """Return the seconds of an epoch's training steps, the median of the counted epochs."""
    epochs = json.loads(file.read_text(encoding="utf-8"))["epochs"]
    return statistics.median(epoch["train_seconds"] for epoch in epochs[FIRST:])


def by_torchrun(config: Config, folder: Path, workers: int) -> float:
    """Return the seconds of an epoch's training steps without Ray."""
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    (folder / "plain.py").write_text(PLAIN, encoding="utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={workers}"]
    run([*start, folder / "plain.py", folder], folder)
    return step_seconds(folder / "metrics.json")


def by_ray(config: Config, folder: Path, workers: int) -> float:
    """Return the same by ``cluster/launch.py``."""
    folder.mkdir()
    (folder / "asked.yaml").write_text(to_yaml(config), encoding="utf-8")
    launch = [sys.executable, ROOT / "cluster" / "launch.py", "--config", "asked.yaml", "--workers", str(workers)]
    run([*launch, "--name", "ray"], folder)
    return step_seconds(folder / "runs" / "ray" / "metrics.json")


def measure_steps(folder: Path, rounds: int) -> dict[int, list[tuple[float, float]]]:
    """Return {workers: (torchrun, Ray Train) of each round}, s of an epoch's steps."""
    config = override(preset("bench"), CHANGED)
    by_torchrun(override(config, {"train.epochs": FIRST + 1}), folder / "warm", 1)  # renders the data
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for number in range(rounds):
        for workers, pairs in found.items():
            name = f"{number}-{workers}"
            pairs.append(
                (
                    by_torchrun(config, folder / f"plain-{name}", workers),
                    by_ray(config, folder / f"ray-{name}", workers),
                )
            )
            print(f"round {number + 1}, {workers} workers: torchrun {pairs[-1][0]:.2f} s, Ray {pairs[-1][1]:.2f} s")
    return found


def measure_trials(folder: Path, trials: int) -> tuple[float, float, float]:
    """Return the seconds of a search: the whole command, its trials alone, and the same trainings in a bare loop."""
    folder.mkdir()
    settings = {**CHANGED, "train.epochs": 3, "train.batch_size": 4}
    words = [word for path, value in settings.items() for word in ("--set", f"{path}={json.dumps(value)}")]
    search = [sys.executable, ROOT / "tune" / "search.py", "--name", "run", "--trials", str(trials), *words]
    whole_s = run([*search, "--algorithm", "random", "--scheduler", "none"], folder)
    found = RunFolder(folder / "runs" / "run")
    files = []
    for trial in found.trials():
        place = folder / f"bare-{trial.number}"
        place.mkdir()
        config = override(found.record.config(), trial.values)
        (place / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
        files.append(place / "config.yaml")
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    lanes = [files[lane :: os.cpu_count()] for lane in range(os.cpu_count() or 1)]
    children = [subprocess.Popen([sys.executable, "-c", BARE, *lane], env=environment) for lane in lanes if lane]
    if any(child.wait() for child in children):
        raise SystemExit("The bare loop failed.")
    return whole_s, max(trial.finished_s for trial in found.trials()), time.monotonic() - began


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["HTT_CACHE"] = f"{scratch}/cache"
        steps = measure_steps(Path(scratch), options.rounds)
        whole_s, trials_s, bare_s = measure_trials(Path(scratch) / "trials", options.trials)
    lines = [
        *header("What Ray costs a step and a trial", "python benchmarks/train_overhead.py"),
        f"Preset bench with {CHANGED['data.synthetic.train_clips']} clips, batches of {CHANGED['train.batch_size']}, "
        f"one thread a worker; {options.rounds} rounds, median (least to most).",
        "",
        "| workers | torchrun, s an epoch | Ray Train, s an epoch | ratio | to reach |",
        "| ---: | ---: | ---: | ---: | --- |",
        *(step_row(workers, pairs) for workers, pairs in steps.items()),
        "",
        f"{options.trials} trials of 3 epochs, {os.cpu_count()} at once:",
        "",
        "| | s | trials an hour | of the bare loop |",
        "| --- | ---: | ---: | ---: |",
        trial_row("bare loop, plain processes", bare_s, options.trials, bare_s),
        trial_row("search, from its first trial to its last", trials_s, options.trials, bare_s),
        trial_row("search, the whole command with Ray's start and the report", whole_s, options.trials, bare_s),
    ]
    write("train_overhead", lines, keep=not options.no_result)
    return 0


def step_row(workers: int, pairs: Sequence[tuple[float, float]]) -> str:
    ratios = [ours / plain for plain, ours in pairs]
    plain, ours = (spread(column) for column in zip(*pairs, strict=True))
    return f"| {workers} | {plain} | {ours} | {spread(ratios, 3)} | 1.05 at most |"


def trial_row(what: str, seconds: float, trials: int, bare_s: float) -> str:
    return f"| {what} | {seconds:.0f} | {trials * 3600 / seconds:.0f} | {bare_s / seconds:.0%} |"


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
