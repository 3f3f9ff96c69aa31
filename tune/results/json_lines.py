"""Append-only files of JSON lines that tolerate partial writes.

A full disk accepts only a part of a line; the next line would then be joined to it, and neither could be read. A file
is therefore truncated to its previous size if an append fails. Lines that are damaged nevertheless are left out and
reported.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from htt import console
from htt.errors import StorageError

CREATE_STUDY, CREATE_TRIAL = 0, 4
"""Optuna's codes of the operations that create studies and trials, which later lines refer to."""
_CODE = re.compile(rb'\{"op_code":(\d+),"')
SHOWN = 5


class Journal(JournalFileBackend):
    """Optuna journal file that is truncated to its previous size if an append fails."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append entries; called by Optuna."""
        with cut_back(Path(self._file_path)):
            super().append_logs(logs)


@contextlib.contextmanager
def cut_back(file: Path) -> Iterator[None]:
    """Truncate a file to its previous size if the block raises an ``OSError``. Only one process may write the file."""
    size = file.stat().st_size if file.exists() else 0
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(file, size)
        raise


def read(file: Path) -> list[dict[str, Any]]:
    """Return the entries of a file, one per line; damaged lines are left out and reported."""
    found, spoilt = [], []
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else (), 1):
        entry = _entry(line)
        if entry is None or not line.startswith(b"{") or _joined(line):
            spoilt.append(number)
        found += [entry] if entry is not None else []
    if spoilt:
        _name(file, spoilt, "are left out")
    return found


def mend(file: Path) -> None:
    """Rewrite an Optuna journal without its damaged lines, which are moved to a separate file and reported.

    Later lines refer to trials by number, so a trial whose first line is damaged is replaced by a failed trial.

    Raises:
        StorageError: the first line of the file is damaged, or the trials of later lines cannot be determined.
    """
    lines = file.read_bytes().splitlines() if file.exists() else []
    entries = [_entry(line) for line in lines]
    spoilt = [place for place, line in enumerate(lines) if entries[place] is None or _joined(line)]
    if not spoilt:
        return
    first = entries[0]
    if first is None or first.get("op_code") != CREATE_STUDY:
        raise _hopeless(file, "its first line, which names the study, cannot be read")
    for place in _lost_trials(file, lines, entries):
        entries[place] = _failed()
    kept = [json.dumps(entry, separators=(",", ":")) for entry in entries if entry is not None]
    with file.with_name(f"{file.name}.spoilt").open("ab") as beside:
        beside.write(b"".join(lines[place] + b"\n" for place in spoilt))
    whole = file.with_name(f".{file.name}.part")
    whole.write_text("\n".join(kept) + "\n", encoding="utf-8")
    os.replace(whole, file)
    _name(file, [place + 1 for place in spoilt], f"are moved to {file.name}.spoilt")


def _lost_trials(file: Path, lines: Sequence[bytes], entries: Sequence[dict[str, Any] | None]) -> list[int]:
    """Return the indices of damaged lines that created a trial.

    Raises:
        StorageError: it cannot be determined which of the damaged lines created a trial.
    """
    codes = {place: _CODE.match(lines[place]) for place, entry in enumerate(entries) if entry is None}
    sure = [place for place, code in codes.items() if code and int(code[1]) == CREATE_TRIAL]
    open_ = [place for place, code in codes.items() if code is None]
    count = missing = 0
    for place, entry in enumerate(entries):
        count += place in sure or (entry is not None and entry.get("op_code") == CREATE_TRIAL)
        missing = max(missing, (entry or {}).get("trial_id", -1) + 1 - count)
    if missing not in (0, len(open_)):
        raise _hopeless(file, f"{len(open_)} lines cannot be read, and {missing} of them began a trial")
    return sorted([*sure, *(open_ if missing else [])])


def _failed() -> dict[str, Any]:
    """Return the entry that creates a failed trial without further data."""
    now = datetime.now(tz=timezone.utc).isoformat(timespec="microseconds")
    times = {"datetime_start": now, "datetime_complete": now}
    return {"op_code": CREATE_TRIAL, "worker_id": "", "study_id": 0, **times, "state": TrialState.FAIL.value}


def _entry(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line, or None; of a line joined to the rest of another, the last entry."""
    for begin in dict.fromkeys((0, _joined(line))):
        with contextlib.suppress(ValueError):
            entry = json.loads(line[begin:])
            if isinstance(entry, dict):
                return entry
    return None


def _joined(line: bytes) -> int:
    """Return the offset of a second entry in a line whose first entry was cut short, or 0 if there is none."""
    start = line[: line.find(b":") + 1]  # such as {"op_code":
    return max(0, line.rfind(start)) if start.startswith(b"{") else 0


def _name(file: Path, numbers: Sequence[int], fate: str) -> None:
    shown = ", ".join(map(str, numbers[:SHOWN])) + (f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else "")
    console.err.print(f"{file}: lines that cannot be read {fate}: {shown}.", markup=False)


def _hopeless(file: Path, why: str) -> StorageError:
    return StorageError(
        f"{file} must be a whole Optuna journal; {why}. Move it away to start anew: trials.parquet keeps the results."
    )


def drop_unfinished_line(path: Path) -> None:
    """Remove an incomplete last line, left by a full disk or a kill, before another line is appended.

    Only the single process that writes the file may call this.
    """
    if path.exists() and not (content := path.read_bytes()).endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)
