"""Run folder: the files of a search or study, readable without Ray and torch.

``runs/<name>/`` holds

=====================  ================================================================================================
``run.yaml``           record of the run: its spec (space or study, base configuration, metric, seed, limits), command,
                       commit, versions; ``asked.yaml`` in older versions
``earlier.parquet``    search with ``--warm-start``: the trials of earlier runs it started with, one row each
``trials.parquet``     one row per trial: state, epochs, seconds, each metric (last epoch and best), each searched path
``trials.jsonl``       during a run: rows that are not in ``trials.parquet`` yet, at most one in sixteen
``epochs.jsonl``       every epoch of every trial, written when it ends
``best.yaml``          the best configuration: ``config``, ``changed`` (relative to the base) and ``found_by``
``report.md``          report with the results and a figure
``predictions.png``    search: validation frames with the hands that the best trial predicts
``optuna.journal``     search: its Optuna study, for ``optuna-dashboard``
``clips/``             results of each trial on each validation clip, at its last epoch
=====================  ================================================================================================

The record, the tables of trials, ``best.yaml`` and the reports are replaced atomically: each is written to a temporary
file and renamed.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from cluster.run_folder import RUN_FILE, RUN_FILES
from htt import json_lines
from htt.errors import RunError, did_you_mean, shown, storage_errors
from htt.files import write_bytes, write_text
from tune.results import run_record
from tune.results.run_record import RunRecord
from tune.results.trials import STATES, Trial, frame, of_line, trials_of

__all__ = ["STATES", "RunFolder", "RunRecord", "Trial", "TrialWriter", "find"]

SHARE = 16
"""The table is rewritten when at least 1 / ``SHARE`` of the rows are not in it."""


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """File of the Optuna study, for ``optuna-dashboard``."""
        return self.path / "optuna.journal"

    @property
    def appended(self) -> Path:
        """File of the trials that ended since ``trials.parquet`` was written, as lines of JSON."""
        return self.path / "trials.jsonl"

    @property
    def epochs(self) -> Path:
        """File of the metrics of each epoch of each trial, as lines of JSON."""
        return self.path / "epochs.jsonl"

    @property
    def clips(self) -> Path:
        """Folder of the results per validation clip: ``<trial id>.parquet``."""
        return self.path / "clips"

    @property
    def best(self) -> Path:
        """File of the best configuration."""
        return self.path / "best.yaml"

    @property
    def predictions(self) -> Path:
        """Picture of validation frames with the hands that the best trial of a search predicts."""
        return self.path / "predictions.png"

    @property
    def report(self) -> Path:
        """File of the report."""
        return self.path / "report.md"

    def exists(self) -> bool:
        """Return True if the folder holds the record of a run."""
        return any(os.path.isfile(self.path / file) for file in RUN_FILES)  # False for a name too long for a file

    def write_record(self, record: RunRecord) -> None:
        """Write the record of the run."""
        write_text(self.path / RUN_FILE, record.text())
        self.__dict__["record"] = record

    @functools.cached_property
    def record(self) -> RunRecord:
        """Record of the run, read once: while a run is locked, only its own process writes it.

        Raises:
            RunError: the file is missing, invalid, or of a newer version.
        """
        return run_record.read(self.path)

    def write_trials(self, trials: Sequence[Trial]) -> None:
        """Write all trials so far to ``trials.parquet``, and remove ``trials.jsonl``."""
        _write_trials(self.path / "trials.parquet", trials)
        with storage_errors(self.appended):
            self.appended.unlink(missing_ok=True)

    def trials(self) -> list[Trial]:
        """Return all finished trials in order of their numbers; empty before the first one ended."""
        newest = _read_lines(self.appended)  # before the table, which may take them in meanwhile
        gone = {name for trial in newest for name in (trial.id, *trial.instead_of)}
        last = {trial.id: trial for trial in newest}
        replaced = {name for trial in newest for name in trial.instead_of}
        kept = [trial for trial in _read(self.path / "trials.parquet") if trial.id not in gone]
        kept += [trial for trial in last.values() if trial.id not in replaced]
        return sorted(kept, key=lambda trial: trial.number)

    def write_earlier(self, trials: Sequence[Trial]) -> None:
        """Write the trials of earlier runs that a search starts with."""
        _write_trials(self.path / "earlier.parquet", trials)

    def earlier(self) -> list[Trial]:
        """Return the trials of earlier runs that the search started with."""
        return _read(self.path / "earlier.parquet")


class TrialWriter:
    """Writer of the trials of a run in progress, whose cost per trial does not grow with their number.

    A row is appended to ``trials.jsonl``, and ``trials.parquet`` is rewritten when one in ``SHARE`` rows is not in it
    yet, and at the end of a run. ``RunFolder.trials`` reads both. Only one process may write them.
    """

    def __init__(self, folder: RunFolder, *, table_alone: bool = False) -> None:
        """Continue the files that an earlier process left.

        Args:
            folder: folder of the run.
            table_alone: rewrite the table for every trial, since a bucket only takes whole files.
        """
        self._folder, self._table_alone = folder, table_alone
        self._appended = json_lines.drop_unfinished_line(folder.appended)

    def add(self, trial: Trial, trials: Collection[Trial]) -> None:
        """Write a finished trial, given all trials of the run, including ``trial``.

        Raises:
            StorageError: the disk is full or read-only; the files are unchanged.
        """
        if self._table_alone or (self._appended + 1) * SHARE >= len(trials):
            self._folder.write_trials(sorted(trials, key=lambda each: each.number))
            self._appended = 0
        else:
            json_lines.append(self._folder.appended, asdict(trial), sync=True)
            self._appended += 1


def find(name: str, root: Path = Path("runs")) -> RunFolder:
    """Return the folder of a run, given its name in ``root`` or its path.

    Raises:
        RunError: no such run; the message lists similar names and the last five. Or it is a final training.
    """
    for path in (root / name, Path(os.path.expanduser(name))):
        if RunFolder(path).exists():
            return RunFolder(path)
    final = next((path for path in (root / name, Path(name)) if os.path.isfile(path / "metrics.json")), None)
    if final is not None:
        raise RunError(
            f"Expected a search or a study; {final} is a final training, whose results are in its metrics.json. Resume "
            f"it with: python cluster/launch.py --config {final}/config.yaml --name {final.name} --resume"
        )
    runs = sorted({path.parent.name for file in RUN_FILES for path in root.glob(f"*/{file}")})
    known = f"Available: {', '.join(runs[-5:])}." if runs else "There are no runs yet; start one: python tune/search.py"
    near = did_you_mean(Path(name).name, runs)
    raise RunError(f"No run {shown(name)} in {root}/. {known}{near}")


def _write_trials(path: Path, trials: Sequence[Trial]) -> None:
    content = io.BytesIO()
    frame(trials).write_parquet(content)  # to memory first: polars does not report a full disk
    write_bytes(path, content.getvalue())


def _read(path: Path) -> list[Trial]:
    if not path.exists():
        return []
    try:
        return trials_of(pl.read_parquet(path.read_bytes()))  # polars opens a path twice; a run may write in between
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"Cannot read {path}, the trials of a run: {error}") from error


def _read_lines(path: Path) -> list[Trial]:
    """Return the trials of a file of lines; ignore a last line that a kill cut short."""
    try:
        text = path.read_text(encoding="utf-8")
        return [of_line(each) for each in text[: text.rfind("\n") + 1].splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"Cannot read {path}, the newest trials of a run: {error}") from error
