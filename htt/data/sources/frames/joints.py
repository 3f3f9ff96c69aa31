"""Joints of a clip of own data: a Parquet file with one row per image, and a column for each hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from htt.data.sources import HANDS_NOT_KNOWN, UnreadableError, _text
from htt.data.sources._frames import Findings, distance_fault
from htt.hand import HANDS, JOINTS_PER_HAND, hand_names


def columns(path: Path) -> list[str]:
    """Return the names of the columns that hold a hand; none if the file cannot be read."""
    try:
        return [name for name in pyarrow.parquet.read_schema(path).names if name in HANDS]
    except (pa.ArrowException, OSError):
        return []


def count(path: Path) -> int:
    """Return the number of rows, or 0 if the file cannot be read."""
    try:
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return 0


def read(path: Path, frames: int, hands: int, findings: Findings) -> tuple[np.ndarray, np.ndarray]:
    """Read the joints [t j 3] float32 of a clip, camera space, metres, and whether each hand is known [t hands].

    A row without a hand (null) means that it is not in the image. An impossible one is reported and not used.

    Raises:
        UnreadableError: the file is missing or damaged, has no column of a hand, or another number of rows than the
            clip has images.
    """
    try:
        table = pyarrow.parquet.read_table(path)
    except FileNotFoundError as error:
        raise UnreadableError(path, _text.MISSING) from error
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(path, "is not a complete Parquet file", str(error).splitlines()[0]) from error
    found = [name for name in table.column_names if name in HANDS]
    if not found:
        raise UnreadableError(path, f"has no column {' or '.join(HANDS)}", ", ".join(table.column_names))
    if len(table) != frames:
        raise UnreadableError(path, "has another number of rows than its clip has images", f"{len(table)}, {frames}")
    joints_m = np.zeros((frames, hands, JOINTS_PER_HAND, 3), np.float32)
    valid = np.zeros((frames, hands), bool)
    for place, hand in enumerate(hand_names(hands)):
        values = table[hand].to_pylist() if hand in found else [None] * frames
        for frame, value in enumerate(values):
            if value is None:
                continue
            try:
                joints_m[frame, place] = _hand(value)
                valid[frame, place] = True
            except ValueError as error:
                wrong = UnreadableError(f"{path}, row {frame + 1}", _text.WRONG_NUMBERS, f"{hand} hand: {error}")
                findings.frame(frame, wrong, HANDS_NOT_KNOWN)
    return joints_m.reshape(frames, -1, 3), valid


def _hand(value: object) -> np.ndarray:
    """Return the joints [21 3] of a hand.

    Raises:
        ValueError: they are not 63 numbers, or impossible.
    """
    try:
        numbers = np.array(value, np.float64).ravel()
    except (TypeError, ValueError):
        raise ValueError("it is not a list of numbers") from None
    if len(numbers) != 3 * JOINTS_PER_HAND:
        raise ValueError(f"expected {3 * JOINTS_PER_HAND}, got {len(numbers)}")
    if not np.isfinite(numbers).all():
        raise ValueError("a number is not finite")
    joints_m = numbers.reshape(JOINTS_PER_HAND, 3)
    if fault := distance_fault(joints_m):
        raise ValueError(fault)
    return joints_m
