"""Terminal table of the best trials."""

from __future__ import annotations

from collections.abc import Sequence

from htt import console
from htt.text import plural
from tune.reports import formatting, report
from tune.results import selection
from tune.results.run_folder import Trial

SHOWN = ("hand_error_mm", "action_accuracy")
"""Metrics shown beside the one selected by; the report shows more."""


def show(trials: Sequence[Trial], metric: str, top: int, shown: Sequence[str] = ()) -> None:
    """Print the best trials by a metric, one line each.

    Args:
        trials: trials of the run.
        metric: metric to rank by.
        top: number of trials to show.
        shown: further metrics to show, before the usual ones.
    """
    broken = sum(trial.breaks is not None for trial in trials)
    left_out = f"; {broken} broke the constraints" if broken else ""
    console.out.print(f"\nBest of {plural(len(trials), 'trial')} by {metric}{left_out}", style="bold")
    order = selection.ranked(trials, metric)
    _print(order[:top], metric, list(dict.fromkeys([*shown, *SHOWN])))
    if order:
        console.out.print(selection.statement(order[0], metric, None, ()), markup=False)


def show_front(trials: Sequence[Trial], metrics: Sequence[str], best: Trial, rule: str) -> None:
    """Print the Pareto front, the trial picked from it, and the rule that picked it."""
    found = selection.front(trials, metrics)
    console.out.print(f"\nOn the front of {plural(len(trials), 'trial')} by {', '.join(metrics)}", style="bold")
    _print(found, metrics[0], metrics[1:])
    console.out.print(selection.statement(best, metrics[0], rule, metrics), markup=False)


def _print(trials: Sequence[Trial], metric: str, shown: Sequence[str]) -> None:
    """Print a row for each trial; if the columns do not all fit, the searched values share the last one."""
    heads, cells = report.rows(trials, metric, shown)
    rows = [[".".join(head.split(".")[-2:]) for head in heads], *cells]
    room = console.width()
    if room and max(map(len, console.table(rows).splitlines())) > room:
        searched = len(heads) - len({path for trial in trials for path in trial.values})
        changed = ["values", *(formatting.sample(trial.values) for trial in trials)]
        rows = [[*row[:searched], what] for row, what in zip(rows, changed, strict=True)]
    console.out.print(console.table(rows, room), markup=False)
