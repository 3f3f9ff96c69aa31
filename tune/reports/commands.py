"""Commands that a report suggests, and paths as a user types them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tune.results.run_folder import RunFolder, Trial


def next_commands(folder: RunFolder, best: Trial | None) -> str:
    """Return the suggested next commands, one per line, first the one that shows how lucky the best trial was.

    Args:
        folder: run folder of the search.
        best: picked trial, or None if there is none.
    """
    run, commands = relative(folder.path), []
    if best:
        commands.append(["python", "tune/best.py", run, "--retrain-seeds", "5"])
        commands.append(["python", "cluster/launch.py", "--config", relative(folder.best)])
        if kept := newest_checkpoint(folder, best):
            commands.append(["python", "-m", "htt.evaluate", "--checkpoint", relative(kept), "--split", "val"])
    commands.append(["python", "tune/best.py", run, "--top", "10"])
    commands.append(["python", "tune/search.py", "--resume", run, "--time-budget", "10m"])
    commands.append(["optuna-dashboard", relative(folder.journal)])
    return "\n".join(map(shlex.join, commands))


def newest_checkpoint(folder: RunFolder, trial: Trial) -> Path | None:
    """Return the newest checkpoint of a trial in the run folder on this machine, or None if there is none."""
    runs = [folder.path, *folder.path.glob("finalists*")]
    places = [place for run in runs for place in (run / "tune" / trial.id, run / "train" / f"train-{trial.id}")]
    kept = [path for place in places for path in place.glob("checkpoint_*") if (path / "checkpoint.json").is_file()]
    return max(kept, key=lambda path: path.name, default=None)


def quoted(path: Path) -> str:
    """Return the path relative to the current folder, if it is inside, quoted for the shell."""
    return shlex.quote(relative(path))


def relative(path: Path) -> str:
    """Return the path relative to the current folder, or unchanged if it is outside."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
