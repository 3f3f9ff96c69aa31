"""Report of a run, either a search or a study, from its folder alone, and the commands to run next.

::

    python -m tune.reports search-quick-20260101-120000        # write report.md and report.html again
    python -m tune.reports NAME --storage s3://bucket/runs     # a run that is only in a bucket
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from htt import console
from tune.results.run_folder import RunFolder, Trial
from tune.results.sync import locate


@dataclass
class Options(console.Options):
    """Write the report of a run again, from what its folder holds."""

    run: Annotated[str, tyro.conf.Positional]
    """The run: its name in runs/, or its folder."""
    storage: console.OptionalText = None
    """Folder or URI (s3://, gs://) of the runs, as the run had it (default: runs). The report is written here."""


def write(folder: RunFolder) -> None:
    """Write the report of a run: ``report.md`` and ``report.html``, and for a study ``report.tex`` and ``report.csv``.

    Raises:
        RunError: the folder holds no readable run.
        StorageError: the disk is full or not writable.
    """
    from tune.reports import search, study  # imported late: matplotlib loads slowly, and only writing needs it

    (study if folder.record.kind == "study" else search).write(folder)


def main(options: Options) -> None:
    """Write the report and print the paths of its files."""
    folder = locate(options.run, options.storage)
    write(folder)
    console.out.print(f"Report  {shown(folder.report)}", markup=False)
    console.out.print(f"Page    {shown(folder.report.with_suffix('.html'))}", markup=False)


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
