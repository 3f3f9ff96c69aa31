"""The Pareto front: the trials of which none is beaten in every objective by another."""

from __future__ import annotations

import math
from collections.abc import Sequence

from htt.training.metric_table import METRICS
from tune.results import Asked, Trial, value

PAIR = ("hand_error_mm", "action_accuracy")
"""The two ends of the model: shown against each other where a search had one objective."""


def objectives(asked: Asked, trials: Sequence[Trial]) -> list[str]:
    """What the search was to make good; for a search with one objective, both ends of the model, where recorded."""
    several = [name for name in getattr(asked, "objectives", ()) if name in METRICS]
    names = several if len(several) > 1 else list(PAIR)
    known = [name for name in names if any(name in trial.metrics for trial in trials)]
    return known if len(known) > 1 else []


def front(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """The trials that no other one beats: as good in all metrics and better in one; in the order of the first metric.

    Failed trials and those that lack a metric are left out.
    """
    usable = judged(trials, metrics)
    points = [_signed(trial, metrics) for trial in usable]
    best = [
        trial for trial, point in zip(usable, points, strict=True) if not any(_beats(other, point) for other in points)
    ]
    return sorted(best, key=lambda trial: (value(trial, metrics[0]), trial.number))


def judged(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Trial]:
    """The trials that did not fail and have all metrics."""
    return [
        trial
        for trial in trials
        if trial.state != "failed" and all(math.isfinite(value(trial, metric)) for metric in metrics)
    ]


def _signed(trial: Trial, metrics: Sequence[str]) -> tuple[float, ...]:
    """Lower is better in each."""
    return tuple(-value(trial, name) if METRICS[name].higher_is_better else value(trial, name) for name in metrics)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
