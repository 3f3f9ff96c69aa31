"""Selection of the best trial: the Pareto front of the trials, and the rules that pick one trial from it.

Rules
    knee                  trial nearest to the ideal point: each objective is measured from its best value on the
                          front, in units of its range there, and distances are Euclidean
    first                 trial with the best first objective
    NAME<=NUMBER, or >=   trial with the best first objective of those on the front that satisfy this bound
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from htt import yaml_text
from htt.config import changed, override
from htt.evaluation.metric_table import METRICS
from tune.experiments import constraints
from tune.experiments.constraints import FIRST, KNEE, bounds
from tune.experiments.spec import SearchSpec
from tune.results.run_folder import RunRecord, Trial

PAIR = ("hand_error_mm", "action_accuracy")
"""Metrics of hand pose and action: the Pareto front of a search with one objective."""


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Return the usable trials that have a finite value of ``metric``, best first.

    Trials that failed or violate a constraint are left out. The value is that of the last epoch, which belongs to the
    kept checkpoint and was reported to Optuna; the best of many noisy epochs would be too optimistic. A trial that was
    stopped early counts with its last value.
    """
    return sorted(comparable(trials, [metric]), key=lambda trial: (_signed(trial, [metric]), trial.number))


def value(trial: Trial, metric: str) -> float:
    """Return a metric of the trial's last epoch, or NaN if it has none."""
    return trial.metrics.get(metric, math.nan)


def best_by(metric: str) -> str:
    """Return the rule of a selection by one metric, in words: "the lowest hand_error_mm"."""
    return f"the {'highest' if METRICS[metric].higher_is_better else 'lowest'} {metric}"


def found_by(record: RunRecord, trial: Trial, metric: str, trials: int, rule: str = "") -> dict[str, Any]:
    """Return how a run found a trial, as plain data.

    Args:
        record: record of the run.
        trial: selected trial.
        metric: metric that selected it, or the first of several.
        trials: number of trials of the run.
        rule: rule that selected it from a Pareto front, in words; empty if the metric alone decided.
    """
    spec = record.spec
    plain = {
        "run": record.name,
        "trial": trial.number,
        "metric": metric,
        "value": value(trial, metric),
        "unit": METRICS[metric].unit,
        "epoch": trial.epochs,
        "state": trial.state,
        "seed": spec.seed if isinstance(spec, SearchSpec) else trial.seed,
        "trials": trials,
        "commit": record.commit,
        "rule": rule or best_by(metric),
    }
    if rule:
        plain["objectives"] = {name: value(trial, name) for name in objectives(record, [trial])}
    if isinstance(spec, SearchSpec) and trial.variant:
        plain["finalist"] = trial.variant
    if isinstance(spec, SearchSpec) and spec.constraints:
        plain["constraints"] = list(map(str, spec.constraints))
    return plain


def best_text(record: RunRecord, trial: Trial, metric: str, trials: int, rule: str = "") -> str:
    """Return the text of ``best.yaml``: configuration of a trial, its changes, and ``found_by`` of these arguments."""
    base = record.config()
    config = override(base, trial.values)
    found = found_by(record, trial, metric, trials, rule)
    return yaml_text.dump(
        {"found_by": found, "changed": changed(config, base), "config": config.model_dump(mode="json")}
    )


def objectives(record: RunRecord, trials: Sequence[Trial]) -> list[str]:
    """Return the recorded metrics of a search's Pareto front: its objectives, or ``PAIR`` if it had one objective.

    Empty if fewer than two of them are recorded.
    """
    names = record.search.objectives or PAIR
    known = [name for name in names if any(name in trial.metrics for trial in trials)]
    return known if len(known) > 1 else []


def pareto_front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """Return the Pareto-optimal trials, best in the first metric first.

    A trial dominates another if it is at least as good in all metrics and better in one. Trials that failed, violate a
    constraint or lack a metric are left out.
    """
    usable = comparable(trials, metrics)
    points = [_signed(trial, metrics) for trial in usable]
    best = [trial for trial, own in zip(usable, points, strict=True) if not any(_beats(other, own) for other in points)]
    return ranked(best, metrics[0])


def comparable(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """Return the trials that may be selected: not failed, all constraints satisfied, finite values of all metrics."""
    usable = [trial for trial in trials if trial.state != "failed" and trial.violation is None]
    return [trial for trial in usable if all(math.isfinite(value(trial, metric)) for metric in metrics)]


def best_trial(record: RunRecord, trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial of a search, or None if no trial is usable.

    With several objectives it is picked from the Pareto front, otherwise it is the best by the metric.
    """
    if record.search.objectives:
        return select(pareto_front(trials, record.search.objectives), record.search.objectives, record.search.pick)
    return next(iter(ranked(trials, record.spec.metric)), None)


def select(best: Sequence[Trial], metrics: Sequence[str], rule: str) -> Trial | None:
    """Return one trial of a Pareto front, or None if it is empty or no trial satisfies the rule's bound.

    Args:
        best: the Pareto front.
        metrics: the objectives.
        rule: selection rule, see the module docstring.
    """
    if rule == KNEE:
        return min(best, key=lambda trial: (_distance(trial, best, metrics), trial.number), default=None)
    kept = [trial for trial in best if not constraints.broken(bounds(rule), trial.metrics)]
    return next(iter(ranked(kept, metrics[0])), None)


def rule_text(rule: str, metrics: Sequence[str]) -> str:
    """Return a rule in words: "the nearest to the ideal point ..."."""
    if rule == KNEE:
        return "the nearest to the ideal point, each objective in units of its range on the front (knee)"
    if rule == FIRST:
        return f"the best {metrics[0]} on the front (first)"
    return f"the best {metrics[0]} on the front with {rule}"


def statement(trial: Trial, metric: str, rule: str | None, metrics: Sequence[str]) -> str:
    """Return the sentence that names the picked trial and the rule, for the terminal and all reports.

    Args:
        trial: the picked trial.
        metric: the metric that selected it, used if ``rule`` is None.
        rule: selection rule of a Pareto front, or None if one metric decided.
        metrics: the objectives.
    """
    return f"Picked: trial {trial.number}, {rule_text(rule, metrics) if rule else best_by(metric)}."


def _distance(trial: Trial, best: Sequence[Trial], metrics: Sequence[str]) -> float:
    """Return the distance of a trial to the ideal point of the front, see the rule ``knee``."""
    total = 0.0
    columns = zip(*(_signed(each, metrics) for each in best), strict=True)
    for own, column in zip(_signed(trial, metrics), columns, strict=True):
        low, high = min(column), max(column)
        total += ((own - low) / (high - low)) ** 2 if high > low else 0.0
    return math.sqrt(total)


def _signed(trial: Trial, metrics: Sequence[str]) -> tuple[float, ...]:
    """Return the metrics of a trial with signs such that lower is better."""
    return tuple(-value(trial, name) if METRICS[name].higher_is_better else value(trial, name) for name in metrics)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
