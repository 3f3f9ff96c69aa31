"""Tables of trials, for the report of a search and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

from htt import console
from htt.evaluation.metric_table import METRICS
from htt.pages.table import Column, Table
from htt.text import NOTHING, plural
from tune.reports import conclusions
from tune.reports import format as fmt
from tune.results import selection
from tune.results.run_folder import Trial
from tune.results.selection import ranked, value

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy")
"""Metrics shown beside the one selected by, most important first; small tables show only the first of them.

The loss is not among them: its weights may be searched, and losses with different weights do not compare."""
NUMBER: Column[Trial] = Column("", attrgetter("number"), "trial")
STATE: Column[Trial] = Column("", attrgetter("state"), "state", number=False)
WITHOUT_IMAGES = "no images"
"""Name of the row of what is reached without the images; without a mean pose, the row has the name of chance."""
BREAKS: Column[Trial] = Column("", attrgetter("violation"), "breaks", number=False)
VALUES: Column[Trial] = Column("", attrgetter("values"), "values", fmt.changes, number=False)


def metric_column(metric: str) -> Column[Trial]:
    """Return the column of a metric at the last epoch."""
    about = METRICS[metric]
    return Column("", lambda trial: value(trial, metric), about.title, partial(fmt.number, about))


def table(
    trials: Sequence[Trial],
    metrics: Sequence[str],
    base: Trial | None = None,
    baselines: Mapping[str, float] | None = None,
) -> Table[Trial]:
    """Return the table of trials: state, epochs, metrics and searched values.

    The metrics are the first of ``metrics``, and those others that were recorded.

    Args:
        trials: trials to show.
        metrics: metrics to show.
        base: trial of the base configuration, marked, and added if it is not among the trials; or None.
        baselines: {metric: value reached without the images}, added as the last row.
    """
    names = {base.id: f"{base.number} (base)"} if base else {}
    trials = [*trials, *([base] if base and base not in trials else [])]
    first, *others = dict.fromkeys(metrics)
    known = [first, *(name for name in others if any(name in trial.metrics for trial in trials))]
    paths = dict.fromkeys(path for trial in trials for path in trial.values)
    searched = [_path_column(path, trials) for path in paths]
    epochs: Column[Trial] = Column("", lambda trial: trial.epochs or "", "epochs")
    number = replace(NUMBER, value=lambda trial: names.get(trial.id, trial.number))
    if baselines and any(name in baselines for name in known):
        names[WITHOUT_IMAGES] = WITHOUT_IMAGES if conclusions.POSE in baselines else conclusions.CHANCE
        trials = [*trials, Trial(WITHOUT_IMAGES, 0, "", NOTHING, 0, 0.0, 0.0, {}, baselines)]
    return Table([number, STATE, epochs, *map(metric_column, known), *searched], trials, folds=True)


def _path_column(path: str, trials: Sequence[Trial]) -> Column[Trial]:
    values = [trial.values.get(path) for trial in trials]
    number = all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)
    return Column("", lambda trial: trial.values.get(path, ""), fmt.short(path), fmt.setting, number)


def show(
    trials: Sequence[Trial],
    metric: str,
    top: int,
    shown: Sequence[str] = (),
    base: Trial | None = None,
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Print the best trials by a metric, one line each.

    Args:
        trials: trials of the run.
        metric: metric to rank by.
        top: number of trials to show.
        shown: further metrics to show, before the usual ones.
        base: trial of the base configuration, or None.
        baselines: {metric: value reached without the images}.
    """
    broken = sum(trial.violation is not None for trial in trials)
    left_out = f"; {broken} violate the constraints" if broken else ""
    console.out.print(f"\nBest of {plural(len(trials), 'trial')} by {metric}{left_out}", style="bold")
    order = ranked(trials, metric)
    _print(order[:top], [metric, *shown, *SHOWN[:2]], base, baselines)
    if order:
        console.out.print(selection.statement(order[0], metric, None, ()), markup=False)


def show_front(trials: Sequence[Trial], metrics: Sequence[str], best: Trial, rule: str) -> None:
    """Print the Pareto front, the trial picked from it, and the rule that picked it."""
    console.out.print(f"\nOn the front of {plural(len(trials), 'trial')} by {', '.join(metrics)}", style="bold")
    _print(selection.pareto_front(trials, metrics), metrics)
    console.out.print(selection.statement(best, metrics[0], rule, metrics), markup=False)


def _print(trials: Sequence[Trial], metrics: Sequence[str], *rows: Any) -> None:
    """Print a row for each trial; if the columns do not all fit, the searched values share the last one."""
    whole, room = table(trials, metrics, *rows), console.width()
    columns = [replace(column, title=".".join(column.title.split(".")[-2:])) for column in whole.columns]
    text = replace(whole, columns=columns).terminal(None)
    if room and max(map(len, text.splitlines())) > room:
        searched = len({path for trial in trials for path in trial.values})
        text = replace(whole, columns=[*columns[: len(columns) - searched], replace(VALUES, show=fmt.sample)]).terminal(
            room
        )
    console.out.print(text, markup=False)
