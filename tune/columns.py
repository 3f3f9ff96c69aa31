"""Cells in columns on a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from htt import console


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        console.out.print(line.rstrip(), markup=False)
