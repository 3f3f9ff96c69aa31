"""Rows of trials on disk the moment they end, at a cost that does not grow with their number.

Writing ``trials.parquet`` anew for every trial costs more with every trial. A row is therefore appended to
``trials.jsonl``, and the table is written when a sixteenth of the rows is not in it yet, and at the end of a run.
``RunFolder.trials`` reads both.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from htt.errors import storage_errors
from tune.results import json_lines
from tune.results.json_lines import drop_unfinished_line
from tune.results.run_folder import RunFolder
from tune.results.trials import Trial, line

SHARE = 16
"""The table is written when one of so many rows is not in it."""


class Ledger:
    """The rows of a run that goes on; one process writes them."""

    def __init__(self, folder: RunFolder, *, table_alone: bool = False) -> None:
        """Take up what an earlier process has left.

        Args:
            folder: of the run.
            table_alone: Write the table for every trial: a bucket takes whole files only.
        """
        self._folder, self._table_alone = folder, table_alone
        drop_unfinished_line(folder.newest)
        self._waiting = folder.newest.read_bytes().count(b"\n") if folder.newest.exists() else 0

    def add(self, trial: Trial, trials: Collection[Trial]) -> None:
        """Write down a trial; ``trials`` are all of the run, this one among them.

        Raises:
            StorageError: the disk is full, or may not be written to; the rows on it are those of before.
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
