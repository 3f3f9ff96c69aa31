"""Time and result of the first command of the README: with an empty cache, and with other seeds of the search.

::

    python benchmarks/default_search.py                # writes benchmarks/results/default_search.md
    python benchmarks/default_search.py --seeds 1

Runs ``python tune/search.py`` with nothing else given, in a folder of its own, with an empty cache; watches the study's
journal for the first value any trial reports; then shows the validation numbers of the best trial beside those of the
mean pose and of chance. The other seeds use the same cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from htt.data.loading.clips import Clips, open_split
from result import header, write
from tune.results import finalists
from tune.results.run_folder import RunFolder, Trial
from tune.results.selection import ranked

ROOT = Path(__file__).resolve().parents[1]
REPORTED = '"intermediate_value"'
"""Code of the study's journal for a value after an epoch."""
POLL_S = 0.1


@dataclass(frozen=True)
class Searched:
    """A search that has ended: its folder, the seconds to the first reported epoch, and the seconds in all."""

    folder: RunFolder
    first_s: float
    total_s: float


def main() -> None:
    """Run the searches and write the result."""
    parser = argparse.ArgumentParser(description="Measure the first command of the README.")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the search (default: 3)")
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory(prefix="default-search-") as scratch:
        searched = [search(Path(scratch), seed) for seed in range(seeds)]
        (shards,) = (Path(scratch) / "cache").glob("synthetic-*")
        lines = report(searched, open_split(shards, "train"), open_split(shards, "val"))
    write("default_search", [*header("The default search", "python benchmarks/default_search.py"), *lines])


def search(scratch: Path, seed: int) -> Searched:
    """Run the first command with a seed; the first seed is that of the command."""
    environment = {**os.environ, "HTT_CACHE": str(scratch / "cache"), "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, str(ROOT / "tune" / "search.py"), "--name", f"seed-{seed}", "--seed", str(seed)]
    journal = scratch / "runs" / f"seed-{seed}" / "optuna.journal"
    began, first = time.monotonic(), None
    child = subprocess.Popen(words, cwd=scratch, env=environment)
    while child.poll() is None:
        time.sleep(POLL_S)
        if first is None and journal.exists() and REPORTED in journal.read_text(encoding="utf-8"):
            first = time.monotonic() - began
    if child.returncode or first is None:
        raise SystemExit(f"The search left with {child.returncode}.")
    return Searched(RunFolder(journal.parent), first, time.monotonic() - began)


def report(searched: list[Searched], train: Clips, val: Clips) -> list[str]:
    """Return the tables of goals and results."""
    first = searched[0]
    baseline, chance = (first.folder.record.baselines[name] for name in ("hand_error_mm", "action_accuracy"))
    lines = [
        "| with an empty cache | asked for | measured |",
        "|---|---|---|",
        f"| the whole command | under 600 s | {first.total_s:.0f} s |",
        f"| first value of a trial | within 90 s | {first.first_s:.0f} s |",
        "",
        f"The mean pose has a hand error of {baseline:.1f} mm, and chance an action accuracy of {100 * chance:.1f} %. "
        f"Data: {len(train)} training and {len(val)} validation clips, {int(train.frame_counts.sum())} and "
        f"{int(val.frame_counts.sum())} frames.",
        "",
        "| seed of the search | trials | best of stage one | best of both stages | window | length | other choices |",
        "|---|---|---|---|---|---|---|",
    ]
    for seed, each in enumerate(searched):
        trials = each.folder.trials()
        best, finals = ranked(trials, "hand_error_mm")[0], finalists.read(each.folder, trials)
        states = [trial.state for trial in trials]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        values = {
            path: f"{value:.3g}" if isinstance(value, float) else str(value) for path, value in best.values.items()
        }
        window, length = values.pop("model.pose.window"), values.pop("model.action.length")
        lines.append(
            f"| {seed} | {len(trials)}: {counts} | {_reached(best)} | {_reached(finals.best) if finals else '-'} "
            f"| {window} | {length} | {', '.join(f'`{path}` {value}' for path, value in values.items())} |"
        )
    return lines


def _reached(trial: Trial) -> str:
    return f"{trial.metrics['hand_error_mm']:.1f} mm, {100 * trial.metrics['action_accuracy']:.1f} %"


if __name__ == "__main__":
    main()
