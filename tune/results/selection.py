"""The Pareto front: the trials of which none is beaten in every objective by another; and how one is picked from it.

Rules
    knee                  the nearest to the ideal point: each objective is measured from its best value on the front,
                          in units of its range there, and distances are Euclidean
    first                 the best in the first objective
    NAME<=NUMBER, or >=   the best in the first objective of those on the front that keep this bound
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from htt.evaluation.metric_table import METRICS
from tune.experiments import constraints
from tune.experiments.constraints import FIRST, KNEE, bounds
from tune.results.run_folder import Asked, Trial, best_by, is_usable, ranked, value

PAIR = ("hand_error_mm", "action_accuracy")
"""The two ends of the model: shown against each other where a search had one objective."""


def objectives(asked: Asked, trials: Sequence[Trial]) -> list[str]:
    """What the search was to make good; for a search with one objective, both ends of the model, where recorded."""
    names = asked.objectives or PAIR
    known = [name for name in names if any(name in trial.metrics for trial in trials)]
    return known if len(known) > 1 else []


def front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """The trials that no other one beats: as good in all metrics and better in one; the best in the first metric first.

    Trials that failed, break a constraint or lack a metric are left out.
    """
    usable = judged(trials, metrics)
    points = [_signed(trial, metrics) for trial in usable]
    best = [
        trial for trial, point in zip(usable, points, strict=True) if not any(_beats(other, point) for other in points)
    ]
    return sorted(best, key=lambda trial: (_signed(trial, metrics)[0], trial.number))


def judged(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """The trials that may be chosen and have all metrics."""
    return [
        trial for trial in trials if is_usable(trial) and all(math.isfinite(value(trial, metric)) for metric in metrics)
    ]


def chosen(asked: Asked, trials: Sequence[Trial]) -> Trial | None:
    """The best trial of a search: picked from the front where it had several objectives, else the best by its metric.

    None where no trial may be chosen.
    """
    if asked.objectives:
        return pick(front(trials, asked.objectives), asked.objectives, asked.pick)
    return next(iter(ranked(trials, asked.metric)), None)


def pick(best: Sequence[Trial], metrics: Sequence[str], rule: str) -> Trial | None:
    """One trial of a front; none where it is empty, or nothing on it keeps the rule's bound.

    Args:
        best: the front.
        metrics: the objectives.
        rule: see above.
    """
    if rule == KNEE:
        return min(best, key=lambda trial: (_distance(trial, best, metrics), trial.number), default=None)
    kept = [trial for trial in best if not constraints.broken(bounds(rule), trial.metrics)]
    return next(iter(ranked(kept, metrics[0])), None)


def words(rule: str, metrics: Sequence[str]) -> str:
    """A rule as a sentence's end: "the nearest to the ideal point ..."."""
    if rule == KNEE:
        return "the nearest to the ideal point, each objective in units of its range on the front (knee)"
    if rule == FIRST:
        return f"the best {metrics[0]} on the front (first)"
    return f"the best {metrics[0]} on the front with {rule}"


def statement(trial: Trial, metric: str, rule: str | None, metrics: Sequence[str]) -> str:
    """Return which trial was picked and by which rule; the same sentence on the terminal and in every report.

    Args:
        trial: the one picked.
        metric: the one selected by, where there was one alone.
        rule: of the pick from a front; None where one metric alone decided.
        metrics: the objectives.
    """
    return f"Picked: trial {trial.number}, {words(rule, metrics) if rule else best_by(metric)}."


def _distance(trial: Trial, best: Sequence[Trial], metrics: Sequence[str]) -> float:
    """To the ideal point."""
    total = 0.0
    for place in range(len(metrics)):
        column = [_signed(each, metrics)[place] for each in best]
        low, high = min(column), max(column)
        total += ((_signed(trial, metrics)[place] - low) / (high - low)) ** 2 if high > low else 0.0
    return math.sqrt(total)


def _signed(trial: Trial, metrics: Sequence[str]) -> tuple[float, ...]:
    """Lower is better in each."""
    return tuple(-value(trial, name) if METRICS[name].higher_is_better else value(trial, name) for name in metrics)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
