"""Journal file of an Optuna study that tolerates partial writes and damaged lines."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from htt import files, json_lines
from htt.errors import StorageError

CREATE_STUDY, CREATE_TRIAL = 0, 4
"""Optuna's codes of the operations that create studies and trials, which later lines refer to."""
_CODE = re.compile(rb'\{"op_code":(\d+),"')


class Journal(JournalFileBackend):
    """Optuna journal file that is truncated to its previous size if an append fails."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries; called by Optuna."""
        with json_lines.truncated_on_error(Path(self._file_path)):
            super().append_logs(logs)


def mend(file: Path) -> None:
    """Rewrite an Optuna journal without its damaged lines, which are moved to a separate file and reported.

    Later lines refer to trials by number, so a trial whose first line is damaged is replaced by a failed trial.

    Raises:
        StorageError: the first line of the file is damaged, or the trials of later lines cannot be determined.
    """
    lines = file.read_bytes().splitlines() if file.exists() else []
    entries = [json_lines.parse(line) for line in lines]
    damaged = [number for number, line in enumerate(lines) if entries[number] is None or json_lines.joined_at(line)]
    if not damaged:
        return
    if (entries[0] or {}).get("op_code") != CREATE_STUDY:
        raise _unreadable(file, "its first line, which names the study, is damaged")
    for number in _lost_trials(file, lines, entries):
        entries[number] = _failed_trial()
    kept = [json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries if entry is not None]
    with file.with_name(f"{file.name}.spoilt").open("ab") as aside:
        aside.write(b"".join(lines[number] + b"\n" for number in damaged))
    files.write_text(file, "".join(kept))
    json_lines.report(file, [number + 1 for number in damaged], f"are moved to {file.name}.spoilt")


def _lost_trials(file: Path, lines: Sequence[bytes], entries: Sequence[dict[str, Any] | None]) -> list[int]:
    """Return the indices of damaged lines that created a trial.

    Raises:
        StorageError: it cannot be determined which of the damaged lines created a trial.
    """
    codes = {number: _CODE.match(lines[number]) for number, entry in enumerate(entries) if entry is None}
    certain = [number for number, code in codes.items() if code and int(code[1]) == CREATE_TRIAL]
    unknown = [number for number, code in codes.items() if code is None]
    count = missing = 0
    for number, entry in enumerate(entries):
        count += number in certain or (entry or {}).get("op_code") == CREATE_TRIAL
        missing = max(missing, (entry or {}).get("trial_id", -1) + 1 - count)
    if missing not in (0, len(unknown)):
        raise _unreadable(file, f"{len(unknown)} lines are damaged, and {missing} of them created a trial")
    return sorted([*certain, *(unknown if missing else [])])


def _failed_trial() -> dict[str, Any]:
    """Return the entry that creates a failed trial without further data."""
    now = datetime.now(tz=timezone.utc).isoformat(timespec="microseconds")
    times = {"datetime_start": now, "datetime_complete": now}
    return {"op_code": CREATE_TRIAL, "worker_id": "", "study_id": 0, **times, "state": TrialState.FAIL.value}


def _unreadable(file: Path, reason: str) -> StorageError:
    return StorageError(
        f"Invalid Optuna journal {file}: {reason}. Move the file away to start a new study: trials.parquet keeps the "
        "results."
    )
