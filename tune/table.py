"""The table of the best trials on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from htt import console
from tune import report
from tune.results import Trial, ranked

SHOWN = ("hand_error_mm", "action_accuracy")
"""Metrics beside the one selected by; the report has more."""


def show(trials: Sequence[Trial], metric: str, top: int) -> None:
    """Print the best trials by a metric, one line each, however narrow the terminal."""
    order = ranked(trials, metric)[:top]
    heads, rows = report.rows(order, metric, SHOWN)
    heads = [".".join(head.split(".")[-2:]) for head in heads]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    console.out.print(f"\n[bold]Best of {len(trials)} trials by {metric}[/]")
    for line in (heads, *rows):
        words = [word.ljust(width) for word, width in zip(line, widths, strict=True)]
        console.out.print("  ".join(words).rstrip(), markup=False)
