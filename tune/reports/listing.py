"""Table rows of trials and suggested next commands, for the report and for the terminal."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from htt.evaluation.metric_table import METRICS
from tune.reports import formatting
from tune.results.run_folder import RunFolder, Trial
from tune.results.selection import value

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy", "loss")
"""Metrics shown in a table beside the one selected by."""


def rows(trials: Sequence[Trial], metric: str, shown: Sequence[str] = SHOWN) -> tuple[list[str], list[list[str]]]:
    """Return the heads and cells of a table of trials: state, epochs, metrics and searched values.

    The metrics are the one selected by, and those of ``shown`` that were recorded.
    """
    metrics = [metric, *(name for name in shown if name != metric and any(name in one.metrics for one in trials))]
    paths = list(dict.fromkeys(path for trial in trials for path in trial.values))
    cells = [
        [
            str(trial.number),
            trial.state,
            str(trial.epochs),
            *(formatting.number(METRICS[name], value(trial, name)) for name in metrics),
            *(formatting.setting(trial.values.get(path)) for path in paths),
        ]
        for trial in trials
    ]
    titles = [METRICS[name].title for name in metrics]
    return ["trial", "state", "epochs", *titles, *map(formatting.short, paths)], cells


def next_commands(folder: RunFolder, best: Trial | None) -> str:
    """Return the suggested next commands, one per line, first the one that shows how lucky the best trial was.

    Args:
        folder: run folder of the search.
        best: picked trial, or None if there is none.
    """
    run, commands = shown(folder.path), []
    if best:
        commands.append(["python", "tune/best.py", run, "--retrain-seeds", "5"])
        commands.append(["python", "cluster/launch.py", "--config", shown(folder.best)])
        if kept := checkpoint(folder, best):
            commands.append(["python", "-m", "htt.evaluate", "--checkpoint", shown(kept), "--split", "val"])
    commands.append(["python", "tune/best.py", run, "--top", "10"])
    commands.append(["python", "tune/search.py", "--resume", run, "--time-budget", "10m"])
    commands.append(["optuna-dashboard", shown(folder.journal)])
    return "\n".join(map(shlex.join, commands))


def checkpoint(folder: RunFolder, trial: Trial) -> Path | None:
    """Return the newest checkpoint of a trial in the run folder on this machine, or None if there is none."""
    places = [folder.path / "tune" / trial.id, folder.path / "train" / f"train-{trial.id}"]
    kept = [path for place in places for path in place.glob("checkpoint_*") if (path / "checkpoint.json").is_file()]
    return max(kept, key=lambda path: path.name, default=None)


def typed(path: Path) -> str:
    """Return the path relative to the current folder, if it is inside, quoted for the shell."""
    return shlex.quote(shown(path))


def shown(path: Path) -> str:
    """Return the path relative to the current folder, or unchanged if it is outside."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
