"""Report of a search from its run folder alone: settings, best trials, importance and next commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

from htt.config import changed, override
from htt.pages import html
from htt.pages.html import Part
from htt.pages.table import Table
from htt.text import printable
from tune.experiments.constraints import excesses
from tune.reports import conclusions, finalists, importance, trial_table
from tune.reports import format as fmt
from tune.reports.commands import next_commands
from tune.reports.figures import search as figures
from tune.reports.figures.axes import axes
from tune.reports.template import fill
from tune.reports.trial_table import BREAKS, NUMBER, STATE, VALUES, metric_column
from tune.results import search_results, selection
from tune.results.run_folder import RunFolder, RunRecord, Trial

ROWS = 10


def write(folder: RunFolder) -> None:
    """Write ``report.md``, ``report.html`` and their pictures, each file atomically.

    Raises:
        RunError: the folder holds no readable run.
        StorageError: the disk is full or not writable.
    """
    record = folder.record
    html.publish(folder.path, record.name, content(folder, record, folder.trials()))


def content(folder: RunFolder, record: RunRecord, trials: Sequence[Trial]) -> list[Part]:
    """Return all parts of the report in reading order."""
    spec = record.search
    order, best = selection.ranked(trials, spec.metric), selection.best_trial(record, trials)
    results, base = search_results.read(folder, record, trials), search_results.base_trial(record, order)
    scales = axes(record, order)
    shares = importance.importance(order, scales, spec.metric) or {}
    spans = importance.intervals(order, scales, spec.metric, shares)
    objectives = selection.objectives(record, trials)
    several = objectives and len(selection.comparable(trials, objectives)) > 1
    front = selection.pareto_front(trials, objectives) if several else []
    bounds = spec.constraints
    shown = [spec.metric, *spec.objectives, *(bound.metric for bound in bounds), *trial_table.SHOWN]
    broken = [trial for trial in trials if trial.violation]
    rule = spec.pick if spec.objectives else None

    def excess(trial: Trial) -> float:
        return sum(max(0.0, each) for each in excesses(bounds, trial.metrics, missing=1.0).values())

    nearest = sorted(broken, key=lambda trial: (excess(trial), trial.number))[:ROWS]
    finals = finalists.section(folder, trials)
    codes = {f"trial {trial.number}": trial.code for trial in trials if trial.epochs}
    return fill(
        "search.md",
        record=record,
        spec=spec,
        trials=trials,
        order=order,
        best=best,
        states=", ".join(f"{count} {state}" for state, count in Counter(trial.state for trial in trials).items()),
        rule=Markup(printable(selection.rule_text(spec.pick, spec.objectives))) if spec.objectives else "",
        statement=selection.statement(best, spec.metric, rule, spec.objectives) if best else "",
        other_code=Markup(fmt.other_code(next(iter(record.codes), None), codes)),
        conclusions=conclusions.sentences(results, record.baselines) if results else [],
        step=conclusions.next_step(folder, record, order, results) if results else None,
        table=trial_table.table(order[:ROWS], shown, base, record.baselines) if order else None,
        changes=_changes(record, best) if best else "",
        finals=finals,
        figures=figures,
        scales=scales,
        references=_references(record, base),
        predictions=folder.predictions if folder.predictions.is_file() else None,
        shares=shares,
        spans=spans,
        shares_text=", ".join(f"{path} {100 * share:.0f} %" for path, share in shares.items()),
        fewest=importance.FEWEST,
        objectives=objectives,
        front=front,
        front_table=Table([NUMBER, STATE, *map(metric_column, objectives), VALUES], front),
        broken=broken,
        refused=sum(trial.state == "infeasible" for trial in broken),
        crossed=any(trial.state != "infeasible" for trial in broken),
        broken_table=Table([NUMBER, STATE, metric_column(spec.metric), BREAKS, VALUES], nearest),
        failed=[trial for trial in trials if trial.error][:ROWS],
        next=next_commands(folder, finals.best if finals else best),
    )


def _references(record: RunRecord, base: Trial | None) -> dict[str, float]:
    """Return {label: value of the metric} of the lines of a figure: the base, and what is reached without images."""
    metric = record.spec.metric
    lines = {f"base, trial {base.number}": selection.value(base, metric)} if base else {}
    if metric in record.baselines:
        lines["mean pose" if metric == conclusions.POSE else conclusions.CHANCE] = record.baselines[metric]
    return lines


def _changes(record: RunRecord, trial: Trial) -> str:
    """Return the changes of a trial to the base configuration, one per line."""
    base = record.config()
    changes = changed(override(base, trial.values), base)
    return "\n".join(f"{path}: {value}" for path, value in changes.items())
