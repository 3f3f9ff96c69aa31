"""Report of a search from its run folder alone: settings, best trials, importance and next commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from htt.config import changed, override
from htt.text import printable
from tune.experiments.constraints import excesses, parse
from tune.reports import format as fmt
from tune.reports import html, importance, trial_table
from tune.reports.figures import search as figures
from tune.reports.figures.axes import axes
from tune.reports.html import Part
from tune.reports.report import next_commands
from tune.reports.table import Table
from tune.reports.trial_table import BREAKS, NUMBER, STATE, VALUES, metric_column
from tune.results import selection
from tune.results.run_folder import Asked, RunFolder, Trial

ROWS = 10


def write(folder: RunFolder) -> None:
    """Write ``report.md``, ``report.html`` and their pictures, each file atomically.

    Raises:
        RunError: the folder holds no readable run.
        StorageError: the disk is full or not writable.
    """
    asked = folder.asked()
    html.publish(folder, asked.name, content(folder, asked, folder.trials()))


def content(folder: RunFolder, asked: Asked, trials: Sequence[Trial]) -> list[Part]:
    """Return all parts of the report in reading order."""
    order, best = selection.ranked(trials, asked.metric), selection.best_trial(asked, trials)
    scales = axes(asked, order)
    shares = importance.importance(order, scales, asked.metric) or {}
    objectives = selection.objectives(asked, trials)
    front = selection.pareto_front(trials, objectives) if len(selection.comparable(trials, objectives)) > 1 else []
    bounds = parse(asked.constraints)
    shown = [asked.metric, *asked.objectives, *(bound.metric for bound in bounds), *trial_table.SHOWN]
    broken = [trial for trial in trials if trial.breaks]
    rule = asked.pick if asked.objectives else None

    def excess(trial: Trial) -> float:
        return sum(max(0.0, each) for each in excesses(bounds, trial.metrics, missing=1.0).values())

    nearest = sorted(broken, key=lambda trial: (excess(trial), trial.number))[:ROWS]
    codes = {f"trial {trial.number}": trial.code for trial in trials if trial.epochs}
    return html.fill(
        "search.md",
        asked=asked,
        trials=trials,
        order=order,
        best=best,
        states=", ".join(f"{count} {state}" for state, count in Counter(trial.state for trial in trials).items()),
        rule=Markup(printable(selection.rule_text(asked.pick, asked.objectives))) if asked.objectives else "",
        statement=selection.statement(best, asked.metric, rule, asked.objectives) if best else "",
        other_code=Markup(fmt.other_code(next(iter(asked.codes), None), codes)),
        table=trial_table.table(order[:ROWS], shown) if order else None,
        changes=_changes(asked, best) if best else "",
        figures=figures,
        scales=scales,
        shares=shares,
        shares_text=", ".join(f"{path} {100 * share:.0f} %" for path, share in shares.items()),
        fewest=importance.FEWEST,
        objectives=objectives,
        front=front if objectives else [],
        front_table=Table([NUMBER, STATE, *map(metric_column, objectives), VALUES], front),
        broken=broken,
        refused=sum(trial.state == "refused" for trial in broken),
        crossed=any(trial.state != "refused" for trial in broken),
        broken_table=Table([NUMBER, STATE, metric_column(asked.metric), BREAKS, VALUES], nearest),
        failed=[trial for trial in trials if trial.error][:ROWS],
        next=next_commands(folder, best),
    )


def _changes(asked: Asked, trial: Trial) -> str:
    """Return the changes of a trial to the base configuration, one per line."""
    base = asked.config()
    changes = changed(override(base, trial.values), base)
    return "\n".join(f"{path}: {value}" for path, value in changes.items())
