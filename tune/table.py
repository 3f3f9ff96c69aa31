"""The table of the best trials on a terminal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from htt import console
from tune import front, report, words
from tune.results import Trial, ranked

SHOWN = ("hand_error_mm", "action_accuracy")
"""Metrics beside the one selected by; the report has more."""


def show(trials: Sequence[Trial], metric: str, top: int, shown: Sequence[str] = ()) -> None:
    """Print the best trials by a metric, one line each.

    Args:
        trials: of the run.
        metric: to rank by.
        top: how many to show.
        shown: metrics of interest beside the usual ones.
    """
    broken = sum(trial.breaks is not None for trial in trials)
    left_out = f"; {broken} broke the constraints" if broken else ""
    console.out.print(f"\nBest of {words.plural(len(trials), 'trial')} by {metric}{left_out}", style="bold")
    _print(ranked(trials, metric)[:top], metric, list(dict.fromkeys([*shown, *SHOWN])))


def show_front(trials: Sequence[Trial], metrics: Sequence[str], best: Trial, rule: str) -> None:
    """Print the Pareto front, and which of its trials was picked, by which rule."""
    found = front.front(trials, metrics)
    console.out.print(f"\nOn the front of {words.plural(len(trials), 'trial')} by {', '.join(metrics)}", style="bold")
    _print(found, metrics[0], metrics[1:])
    console.out.print(f"Picked: trial {best.number}, {front.words(rule, metrics)}.", markup=False)


def _print(trials: Sequence[Trial], metric: str, shown: Sequence[str]) -> None:
    """One line each; on a narrow terminal without the last columns."""
    heads, rows = report.rows(trials, metric, shown)
    heads = [".".join(head.split(".")[-2:]) for head in heads]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    fitting = _fitting(widths) if console.out.is_terminal else len(widths)
    for line in (heads, *rows):
        words = [word.ljust(width) for word, width in zip(line[:fitting], widths, strict=False)]
        console.out.print("  ".join(words).rstrip(), markup=False)
    if fitting < len(widths):
        console.out.print(f"({len(widths) - fitting} more columns in report.md, or on a wider terminal)")


def _fitting(widths: Sequence[int]) -> int:
    """How many columns fit on the terminal, side by side with two spaces between."""
    ends = itertools.accumulate(width + 2 for width in widths)
    return max(1, sum(end - 2 <= console.out.width for end in ends))
