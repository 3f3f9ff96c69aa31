"""Append-only log of finished trials, whose cost per trial does not grow with the number of trials.

Rewriting ``trials.parquet`` for every trial costs more with every trial. A row is therefore appended to
``trials.jsonl``, and the table is rewritten when one in ``SHARE`` rows is not in it yet, and at the end of a run.
``RunFolder.trials`` reads both.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from htt.errors import storage_errors
from tune.results import json_lines
from tune.results.run_folder import RunFolder
from tune.results.trials import Trial, line

SHARE = 16
"""The table is rewritten when at least 1 / ``SHARE`` of the rows are not in it."""


class Ledger:
    """Writer of the rows of a run in progress; only one process may write them."""

    def __init__(self, folder: RunFolder, *, table_alone: bool = False) -> None:
        """Continue the files that an earlier process left.

        Args:
            folder: folder of the run.
            table_alone: rewrite the table for every trial, since a bucket only takes whole files.
        """
        self._folder, self._table_alone = folder, table_alone
        json_lines.drop_unfinished_line(folder.newest)
        self._waiting = folder.newest.read_bytes().count(b"\n") if folder.newest.exists() else 0

    def add(self, trial: Trial, trials: Collection[Trial]) -> None:
        """Write a finished trial.

        Args:
            trial: the finished trial.
            trials: all trials of the run, including ``trial``.

        Raises:
            StorageError: the disk is full or read-only; the files are unchanged.
        """
        if self._table_alone or (self._waiting + 1) * SHARE >= len(trials):
            self._folder.write_trials(sorted(trials, key=lambda each: each.number))
            self._waiting = 0
            return
        place = self._folder.newest
        with storage_errors(place), json_lines.cut_back(place), place.open("a", encoding="utf-8") as file:
            file.write(line(trial))
            file.flush()
            os.fsync(file.fileno())
        self._waiting += 1
