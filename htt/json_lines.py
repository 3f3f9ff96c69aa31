"""Append-only files of JSON lines that tolerate partial writes.

A full disk accepts only a part of a line; the next line would then be joined to it, and neither could be read. A file
is therefore truncated to its previous size if an append fails. Lines that are damaged nevertheless are left out and
reported.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from htt import console
from htt.errors import storage_errors

SHOWN = 5
"""Number of damaged lines that are listed in a message."""


def append(file: Path, entry: Mapping[str, Any], *, sync: bool = False) -> None:
    """Add an entry as the last line of a file, and wait until it is on the disk if ``sync``.

    Raises:
        StorageError: the disk is full or not writable; the file is unchanged.
    """
    with storage_errors(file), truncated_on_error(file), file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(entry) + "\n")
        if sync:
            out.flush()
            os.fsync(out.fileno())


@contextlib.contextmanager
def truncated_on_error(file: Path) -> Iterator[None]:
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
    entries, damaged = [], []
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else (), 1):
        entry = parse(line)
        if entry is None or not line.startswith(b"{") or joined_at(line):
            damaged.append(number)
        entries += [entry] if entry is not None else []
    if damaged:
        report(file, damaged, "are left out")
    return entries


def drop_unfinished_line(file: Path) -> int:
    """Remove an incomplete last line, left by a full disk or a kill; return the number of complete lines.

    Only the single process that writes the file may call this.
    """
    content = file.read_bytes() if file.exists() else b""
    if not content.endswith(b"\n") and content:
        os.truncate(file, content.rfind(b"\n") + 1)
    return content.count(b"\n")


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the entry of a line, or None; of a line joined to the rest of another, the last entry."""
    for begin in dict.fromkeys((0, joined_at(line))):
        with contextlib.suppress(ValueError):
            entry = json.loads(line[begin:])
            if isinstance(entry, dict):
                return entry
    return None


def joined_at(line: bytes) -> int:
    """Return the offset of a second entry in a line whose first entry was cut short, or 0 if there is none."""
    start = line[: line.find(b":") + 1]  # such as {"op_code":
    return max(0, line.rfind(start)) if start.startswith(b"{") else 0


def report(file: Path, numbers: Sequence[int], fate: str) -> None:
    """Print the numbers of damaged lines, and what is done with them."""
    shown = ", ".join(map(str, numbers[:SHOWN])) + (f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else "")
    console.err.print(f"{file}: damaged lines {fate}: {shown}.", markup=False)
