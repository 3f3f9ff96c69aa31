"""The table of the best trials on a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from htt import console
from tune import report
from tune.results import Trial, ranked

SHOWN = ("hand_error_mm", "action_accuracy")
"""Metrics beside the one selected by; the report has more."""


def show(trials: Sequence[Trial], metric: str, top: int) -> None:
    """Print the best trials by a metric, one line each; on a narrow terminal without the last columns."""
    order = ranked(trials, metric)[:top]
    heads, rows = report.rows(order, metric, SHOWN)
    heads = [".".join(head.split(".")[-2:]) for head in heads]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    fitting = _fitting(widths) if console.out.is_terminal else len(widths)
    console.out.print(f"\n[bold]Best of {len(trials)} trials by {metric}[/]")
    for line in (heads, *rows):
        words = [word.ljust(width) for word, width in zip(line[:fitting], widths, strict=False)]
        console.out.print("  ".join(words).rstrip(), markup=False)
    if fitting < len(widths):
        console.out.print(f"({len(widths) - fitting} more columns in report.md, or on a wider terminal)")


def _fitting(widths: Sequence[int]) -> int:
    """How many columns fit on the terminal, side by side with two spaces between."""
    ends = itertools.accumulate(width + 2 for width in widths)
    return max(1, sum(end - 2 <= console.out.width for end in ends))
