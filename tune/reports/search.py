"""Report of a search from its run folder alone: settings, best trials, importance and next commands."""

from __future__ import annotations

from collections.abc import Sequence

from htt.config import changed, override
from htt.evaluation.metric_table import METRICS
from htt.text import block, code, escaped, plural
from tune.experiments.constraints import excesses
from tune.reports import format as fmt
from tune.reports import html, importance, trial_table
from tune.reports.figures import search
from tune.reports.figures.axes import Axis, axes
from tune.reports.html import Part, Picture, bullets, warnings
from tune.reports.report import next_commands
from tune.reports.table import Table
from tune.reports.trial_table import BREAKS, NUMBER, STATE, VALUES, metric_column
from tune.results import selection
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.selection import value

ROWS = 10


def write(folder: RunFolder) -> None:
    """Write ``report.md``, ``report.html`` and their pictures, each file atomically.

    Raises:
        RunError: the folder holds no readable run.
        StorageError: the disk is full or not writable.
    """
    record = folder.record
    html.publish(folder, record.name, content(folder, record, folder.trials()))


def content(folder: RunFolder, record: RunRecord, trials: Sequence[Trial]) -> list[Part]:
    """Return all parts of the report in reading order."""
    order, best = selection.ranked(trials, record.spec.metric), selection.chosen(record, trials)
    parts = _settings(record, trials)
    if order:
        parts += _best(record, order, best)
        parts += ["## Progress", _progress(order, record.spec.metric)]
        parts += _searched(order, axes(record, order), record.spec.metric)
        parts += _front(record, trials, best)
    elif any(trial.violation for trial in trials):
        parts += warnings(f"No trial keeps the constraints {', '.join(map(str, record.search.constraints))} yet.")
    else:
        parts += warnings("No trial gave a value yet.")
    parts += _violations(record, trials)
    failed = [f"trial {trial.number}: {escaped(trial.error)}" for trial in trials if trial.error]
    if failed:
        parts += ["## Failed", bullets(failed[:ROWS])]
    return [*parts, "## Next", block(next_commands(folder, best))]


def _settings(record: RunRecord, trials: Sequence[Trial]) -> list[Part]:
    spec, states = record.search, [trial.state for trial in trials]
    ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"
    goals = [
        f"`{name}` ({'higher' if METRICS[name].higher_is_better else 'lower'} is better)"
        for name in spec.all_objectives
    ]
    codes = {f"trial {trial.number}": trial.code for trial in trials if trial.epochs}
    return [
        *warnings(*(f"**{escaped(message)}**" for message in record.incomplete)),
        code(record.command),
        f"Selected by {' and '.join(goals)} on the validation split, at a trial's last epoch. "
        f"Space {code(spec.space)}, algorithm {spec.algorithm}, scheduler {spec.scheduler}, seed {spec.seed}, "
        f"commit {escaped(record.commit)}. Trials: {len(trials)} ({ended}).",
        *_options(record),
        *warnings(fmt.other_code(next(iter(record.codes), None), codes)),
        "Searched:",
        bullets(f"`{path}`: {escaped(str(domain))}" for path, domain in spec.domains.items()),
    ]


def _options(record: RunRecord) -> list[str]:
    """Return a paragraph about objectives, constraints, warm start and initial points, if any are set."""
    spec, sentences = record.search, []
    if spec.objectives:
        sentences.append(
            f"Objectives: {', '.join(f'`{name}`' for name in spec.objectives)}; the scheduler watches the first. One "
            f"trial of their front is picked: {selection.words(spec.pick, spec.objectives)}."
        )
    if spec.constraints:
        sentences.append(f"Constraints: {', '.join(code(str(each)) for each in spec.constraints)}.")
    if spec.warm_start:
        sentences.append(f"Began with trials of {', '.join(map(code, spec.warm_start))}.")
    if spec.points:
        sentences.append(f"{plural(len(spec.points), 'point')} given to try first.")
    return [" ".join(sentences)] if sentences else []


def _best(record: RunRecord, order: Sequence[Trial], picked: Trial | None) -> list[Part]:
    """Return the rule that picked the trial in ``best.yaml``, the best trials, and the changes of the picked one."""
    title = f"Best by {METRICS[record.spec.metric].title.lower()} alone" if record.search.objectives else "Best trials"
    bounded = [each.metric for each in record.search.constraints]
    shown = [record.spec.metric, *record.search.objectives, *bounded, *trial_table.SHOWN]
    best: list[Part] = [f"## {title}", trial_table.table(order[:ROWS], shown)]
    if picked is None:
        return [*warnings(f"No trial on the front keeps the rule to pick one: {record.search.pick}."), *best]
    rule, base = record.search.pick if record.search.objectives else None, record.config()
    changes = changed(override(base, picked.values), base)
    return [
        escaped(selection.statement(picked, record.spec.metric, rule, record.search.objectives)),
        *best,
        f"What trial {picked.number}, the one picked, changes in the base:",
        block("\n".join(f"{path}: {chosen}" for path, chosen in changes.items()) or "# nothing", "yaml"),
    ]


def _progress(order: Sequence[Trial], metric: str) -> Picture:
    about = METRICS[metric]
    return Picture(
        "progress",
        search.progress(order, metric),
        f"{about.title} of each trial at its last epoch, when it ended; the line is the best so far by this metric.",
        f"{about.title} of {len(order)} trials over time; the best reached {about.number(value(order[0], metric))}.",
    )


def _searched(order: Sequence[Trial], scales: Sequence[Axis], metric: str) -> list[Part]:
    """Return the sections on the values tried and on the importance of the paths."""
    if not scales or len(order) < 2:
        return []
    goal = METRICS[metric].title.lower()
    drawn = Picture(
        "parallel",
        search.parallel(order, scales, metric),
        "Each line is a trial, through the values it took, down to what it reached: from orange (worst) by grey to "
        f"blue (best); the black one is the best by {goal}. Axes are logarithmic where the search drew logarithms.",
        f"Parallel coordinates of {len(order)} trials over {', '.join(scale.path for scale in scales)}, coloured by "
        f"{goal}.",
    )
    return ["## What was tried", drawn, "## What mattered", _importance(order, scales, metric)]


def _importance(order: Sequence[Trial], scales: Sequence[Axis], metric: str) -> Part:
    shares = importance.importance(order, scales, metric)
    if shares is None:
        return (
            f"Too few trials to tell: {plural(len(order), 'trial')} gave a value, and shares of importance "
            f"are mostly chance below {importance.FEWEST}."
        )
    return Picture(
        "importance",
        search.bars(shares),
        f"How far the values of the best trials differ from those of all {len(order)} (PED-ANOVA); the shares sum "
        "to 100 %. A small share may be chance, and a path is important within its domain alone. Trials that were "
        "stopped early count with what they reached.",
        "Bars of the importance of each searched path: "
        f"{', '.join(f'{path} {100 * share:.0f} %' for path, share in shares.items())}.",
    )


def _front(record: RunRecord, trials: Sequence[Trial], best: Trial | None) -> list[Part]:
    """Return the section on the Pareto front; empty if fewer than two trials have values of the objectives."""
    metrics = selection.objectives(record, trials)
    if not metrics or len(selection.judged(trials, metrics)) < 2:
        return []
    picked = best if record.search.objectives else None
    front = selection.front(trials, metrics)
    against = " against ".join(METRICS[metric].title for metric in metrics)
    ringed = f" The ring is trial {picked.number}, the one picked." if picked else ""
    crossed = any(trial.violation and trial.state != "refused" for trial in trials)
    return [
        "## What is traded for what",
        Picture(
            "pareto",
            search.pareto(trials, metrics, picked),
            f"{against.capitalize()}: a trial is on the front where no other one is as good in all "
            f"and better in one.{ringed}{' Crosses break a constraint.' if crossed else ''}",
            f"Scatter of {against.lower()}; {plural(len(front), 'trial')} on the Pareto front.",
        ),
        "On the front:",
        Table([NUMBER, STATE, *map(metric_column, metrics), VALUES], front),
    ]


def _violations(record: RunRecord, trials: Sequence[Trial]) -> list[Part]:
    """Return the section on trials that break a constraint and so cannot be the best, smallest violation first."""
    broken = [trial for trial in trials if trial.violation]
    if not broken:
        return []
    bounds = record.search.constraints

    def excess(trial: Trial) -> float:
        return sum(max(0.0, each) for each in excesses(bounds, trial.metrics, missing=1.0).values())

    sentence = f"{plural(len(broken), 'trial')} broke a constraint and cannot be the best"
    if refused := sum(trial.state == "refused" for trial in broken):
        were = "was" if refused == 1 else "were"
        sentence += f"; {refused} of them {were} known to before training, and not trained"
    nearest = sorted(broken, key=lambda trial: (excess(trial), trial.number))[:ROWS]
    return [
        "## Outside the constraints",
        f"{sentence}. The nearest:",
        Table([NUMBER, STATE, metric_column(record.spec.metric), BREAKS, VALUES], nearest),
    ]
