"""Conclusions of a search in sentences, and the next step, for the terminal and the report."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

from htt.evaluation.intervals import sampled
from htt.evaluation.metric_table import METRICS, Metric
from htt.text import NOTHING, plural
from tune.reports import format as fmt
from tune.reports.commands import relative
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.search_results import SearchResults
from tune.results.selection import PAIR, ranked, value

LISTED = 8
"""Largest number of trials that a sentence names."""
LATE = 0.75
"""A search is still improving if its best trial is in the last quarter."""
FEWEST = 20
"""Fewest trials with a value after which a search may have found its best."""
SEEDS = 5
POSE, CHANCE = "hand_error_mm", "chance"
BASELINES = {POSE: "the mean pose of the training clips", "action_accuracy": CHANCE}
"""{metric: how it is reached without the images}."""


def sentences(found: SearchResults, baselines: Mapping[str, float]) -> list[str]:
    """Return what the search has shown: its best trial, the base, what is reached without images, and ties.

    Args:
        found: results of the search.
        baselines: {metric: value reached without the images}.
    """
    about, best = METRICS[found.metric], found.best
    span = fmt.span(about, found.low, found.high)
    over = f"over {sampled(found.clips, found.groups)} of the validation split"
    interval = f", 95 % interval {span} {over}" if span != NOTHING else ""
    reached = f"{about.title.lower()} {fmt.number(about, value(best, found.metric))}"
    lines = [f"Best: trial {best.number}, {reached}{interval}."]
    if found.base is None:
        lines.append("No trial has the base configuration: it is outside the space, or gave no value.")
    elif found.base.id == best.id:
        lines.append("The best trial is the base configuration itself: no trial beat it.")
    else:
        lines.append(_of_base(about, found))
    known = {name: how for name, how in BASELINES.items() if name in baselines}
    if known:
        words = [
            f"{METRICS[name].title.lower()} {METRICS[name].number(baselines[name])} ({how})"
            for name, how in known.items()
        ]
        lines.append(f"{'Without the images' if POSE in known else 'By guessing'}: {', '.join(words)}.")
    if found.others:
        count, tied = plural(len(found.others), "other complete trial"), found.tied
        names = ", ".join(str(trial.number) for trial in tied[:LISTED]) + (", ..." if len(tied) > LISTED else "")
        if tied:
            ties = f"{len(tied)} of {count} cannot be told apart from it (trial{'s' if len(tied) > 1 else ''} {names})"
        else:
            ties = f"Of {count}, none is as good"
        lines.append(
            f"{ties}: the 95 % interval of the difference, clip by clip, {'includes' if tied else 'excludes'} zero. "
            "The best was chosen by this value, so its lead is partly luck."
        )
    return [*lines, *_by_other_metric(found)]


def _by_other_metric(found: SearchResults) -> list[str]:
    """Return a sentence if a tied trial is better than the best one in the other metric of hand pose and action."""
    others = [metric for metric in PAIR if metric != found.metric]
    if len(others) > 1:  # another metric selected, which ``--pick`` would not weigh
        return []
    about, best = METRICS[others[0]], value(found.best, others[0])
    first = next(iter(ranked([found.best, *found.tied], about.name)), found.best)
    if value(first, about.name) == best or not math.isfinite(best):
        return []
    return [
        f"Of these, trial {first.number} has the {'highest' if about.higher_is_better else 'lowest'} "
        f"{about.title.lower()}, {fmt.number(about, value(first, about.name))}; the best trial has "
        f"{fmt.number(about, best)}, each with one seed. tune/best.py --pick knee --retrain-seeds {SEEDS} measures a "
        "balance of both metrics with new seeds."
    ]


def _of_base(about: Metric, found: SearchResults) -> str:
    base, pair = found.base, found.of_base
    assert base is not None
    start = f"The base configuration, trial {base.number}, has {fmt.number(about, value(base, found.metric))}"
    if pair is None:
        return f"{start}."
    span = fmt.difference_span(about, pair.low, pair.high)
    verdict = "" if pair.differs else ": it cannot be told apart from the best"
    return f"{start}, {fmt.difference(about, pair.difference)} from the best (95 % interval {span}){verdict}."


def next_step(folder: RunFolder, record: RunRecord, order: Sequence[Trial], found: SearchResults) -> tuple[str, str]:
    """Return what to do next with its reason, and the command.

    Args:
        folder: folder of the search.
        record: its record.
        order: its trials with a value, best first.
        found: its results.
    """
    run, spec = relative(folder.path), record.search
    longer = (
        ["--trials", str(2 * max(spec.trials, len(order)))]
        if spec.trials
        else ["--time-budget", _budget(spec.time_budget_s)]
    )
    more = shlex.join(["python", "tune/search.py", "--resume", run, *longer])
    best, base = found.best, found.of_base
    ended = sorted(order, key=lambda trial: trial.finished_s)
    if found.base and found.base.id == best.id:
        return "More trials, or a wider space: no trial beat the base configuration", more
    if base and not base.differs:
        return "More trials: the best cannot be told apart from the base configuration", more
    if len(order) < FEWEST:
        return f"More trials: only {plural(len(order), 'trial')} gave a value", more
    if ended.index(best) >= LATE * len(ended):
        return "More trials: the best is among the last quarter, so the search still improves", more
    seeds = shlex.join(["python", "tune/best.py", run, "--retrain-seeds", str(SEEDS)])
    if found.tied:
        return (
            f"More seeds: {plural(len(found.tied), 'other trial')} may be as good, so part of the best is luck",
            seeds,
        )
    if not found.others:
        return "More seeds: they show how much of the best value is luck", seeds
    final = shlex.join(["python", "cluster/launch.py", "--config", relative(folder.best)])
    return "The final training: the best is better than every other complete trial", final


def _budget(seconds: float | None) -> str:
    return f"{math.ceil((seconds or 600) / 60)}m"
