"""The table of the best trials on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from htt import console
from tune import report
from tune.results import Trial, ranked


def show(trials: Sequence[Trial], metric: str, top: int) -> None:
    """Print the best trials by a metric, one row each."""
    order = ranked(trials, metric)[:top]
    heads, rows = report.rows(order, metric)
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"Best of {len(trials)} trials by {metric}")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.out.print(table, soft_wrap=False)
