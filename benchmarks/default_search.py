"""Time and result of the first command of the README, from a fresh cache to the best configuration.

::

    python benchmarks/default_search.py            (writes benchmarks/results/default_search.md)

Runs ``python tune/search.py`` with nothing else given, in a folder of its own, with an empty cache; watches the study's
journal for the first value any trial reports; then compares the best trial's validation numbers with predicting the
training clips' mean pose for every frame, and with naming an action by chance.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from htt.data.loading.clips import Clips, open_split
from result import header, write
from tune.results.run_folder import RunFolder
from tune.results.selection import ranked

ROOT = Path(__file__).resolve().parents[1]
REPORTED = '"intermediate_value"'
"""Code of the study's journal for a value after an epoch."""
POLL_S = 0.1


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="default-search-") as scratch:
        first_s, total_s = search(Path(scratch))
        folder = RunFolder(next((Path(scratch) / "runs").iterdir()))
        (shards,) = (Path(scratch) / "cache").glob("synthetic-*")
        lines = report(folder, open_split(shards, "train"), open_split(shards, "val"), first_s, total_s)
    write("default_search", [*header("The default search", "python benchmarks/default_search.py"), *lines])


def search(scratch: Path) -> tuple[float, float]:
    """Return the seconds to the first reported epoch, and in all."""
    environment = {**os.environ, "HTT_CACHE": str(scratch / "cache"), "PYTHONUNBUFFERED": "1"}
    began, first = time.monotonic(), None
    child = subprocess.Popen([sys.executable, str(ROOT / "tune" / "search.py")], cwd=scratch, env=environment)
    while child.poll() is None:
        time.sleep(POLL_S)
        journals = (scratch / "runs").glob("*/optuna.journal")
        if first is None and any(REPORTED in journal.read_text(encoding="utf-8") for journal in journals):
            first = time.monotonic() - began
    if child.returncode or first is None:
        raise SystemExit(f"The search left with {child.returncode}.")
    return first, time.monotonic() - began


def report(folder: RunFolder, train: Clips, val: Clips, first_s: float, total_s: float) -> list[str]:
    """Return the table of goals and results."""
    trials = folder.trials()
    best = ranked(trials, "hand_error_mm")[0]
    error, accuracy = best.metrics["hand_error_mm"], best.metrics["action_accuracy"]
    baseline, chance = (folder.record.baselines[name] for name in ("hand_error_mm", "action_accuracy"))
    states = [trial.state for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return [
        "| | asked for | measured |",
        "|---|---|---|",
        f"| the whole command | under 600 s | {total_s:.0f} s |",
        f"| first value of a trial | within 120 s | {first_s:.0f} s |",
        f"| best trial's hand error | 30 % below the mean pose's {baseline:.1f} mm "
        f"| {error:.1f} mm, {100 * (1 - error / baseline):.0f} % below |",
        f"| its action accuracy | 3 times chance ({100 * chance:.1f} %) "
        f"| {100 * accuracy:.1f} %, {accuracy / chance:.1f} times |",
        "",
        f"{len(trials)} trials: {counts}. Data: {len(train)} training and {len(val)} validation clips, "
        f"{int(train.frame_counts.sum())} and {int(val.frame_counts.sum())} frames. The best trial changed:",
        "",
        *(f"- `{path}`: {value}" for path, value in best.values.items()),
    ]


if __name__ == "__main__":
    main()
