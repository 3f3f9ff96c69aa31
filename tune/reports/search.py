"""Report of a search from its run folder alone: settings, best trials, importance and next commands."""

from __future__ import annotations

from collections.abc import Sequence

from htt.config import changed, override
from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.experiments.constraints import excesses, parse
from tune.reports import formatting, html, importance
from tune.reports.document import Code, Heading, Listing, Part, Picture, Table, Text, code, escaped
from tune.reports.figures import search
from tune.reports.figures.axes import Axis, axes
from tune.reports.listing import SHOWN, next_commands, rows
from tune.results.run_folder import Asked, RunFolder, Trial
from tune.results.selection import chosen, front, judged, objectives, ranked, statement, value
from tune.results.selection import words as rule_words

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
    order, best = ranked(trials, asked.metric), chosen(asked, trials)
    parts: list[Part] = _question(asked, trials)
    if order:
        title = f"Best by {METRICS[asked.metric].title.lower()} alone" if asked.objectives else "Best trials"
        parts += [*_picked(asked, best), Heading(title), _table(order[:ROWS], asked), *_best(asked, best)]
        parts += [Heading("Progress"), _progress(order, asked.metric)]
        parts += _searched(order, axes(asked, order), asked.metric)
        parts += _traded(asked, trials, objectives(asked, trials), best)
    else:
        parts.append(Text(_nothing(asked, trials), warns=True))
    parts += _outside(asked, trials)
    failed = [trial for trial in trials if trial.error]
    if failed:
        parts += [
            Heading("Failed"),
            Listing([_failure(one) for one in failed[:ROWS]]),
        ]
    return [*parts, Heading("Next"), Code(next_commands(folder, best))]


def _failure(trial: Trial) -> str:
    return f"trial {trial.number}: {escaped(str(trial.error))}"


def _question(asked: Asked, trials: Sequence[Trial]) -> list[Part]:
    states = [trial.state for trial in trials]
    ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"
    goals = [f"`{name}` ({_direction(name)} is better)" for name in asked.objectives or [asked.metric]]
    return [
        *(Text(f"**{escaped(said)}**", warns=True) for said in asked.incomplete),
        Text(code(asked.command)),
        Text(
            f"Selected by {' and '.join(goals)} on the validation split, at a trial's last epoch. "
            f"Space {code(asked.space)}, algorithm {asked.algorithm}, scheduler {asked.scheduler}, seed {asked.seed}, "
            f"commit {escaped(asked.commit)}. Trials: {len(trials)} ({ended})."
        ),
        *_wishes(asked),
        *_codes(asked, trials),
        Text("Searched:"),
        Listing([f"`{path}`: {escaped(domain)}" for path, domain in asked.domains.items()]),
    ]


def _wishes(asked: Asked) -> list[Part]:
    """Return a paragraph about objectives, constraints, warm start and initial points, if any are set."""
    said = []
    if asked.objectives:
        said.append(
            f"Objectives: {', '.join(f'`{name}`' for name in asked.objectives)}; the scheduler watches the first. One "
            f"trial of their front is picked: {rule_words(asked.pick, asked.objectives)}."
        )
    if asked.constraints:
        said.append(f"Constraints: {', '.join(map(code, asked.constraints))}.")
    if asked.warm_start:
        said.append(f"Began with trials of {', '.join(map(code, asked.warm_start))}.")
    if asked.points:
        said.append(f"{plural(len(asked.points), 'point')} given to try first.")
    return [Text(" ".join(said))] if said else []


def _codes(asked: Asked, trials: Sequence[Trial]) -> list[Part]:
    """Return a warning about numbers that came from other code, if there are any."""
    codes = {f"trial {trial.number}": trial.code for trial in trials if trial.epochs}
    said = formatting.other_code(next(iter(asked.codes), None), codes)
    return [Text(said, warns=True)] if said else []


def _nothing(asked: Asked, trials: Sequence[Trial]) -> str:
    if any(trial.breaks for trial in trials):
        return f"No trial keeps the constraints {', '.join(asked.constraints)} yet."
    return "No trial gave a value yet."


def _outside(asked: Asked, trials: Sequence[Trial]) -> list[Part]:
    """Return the section on trials that break a constraint and so cannot be the best, smallest violation first."""
    broken = [trial for trial in trials if trial.breaks]
    if not broken:
        return []
    bounds = parse(asked.constraints)

    def beyond(trial: Trial) -> float:
        return sum(max(0.0, excess) for excess in excesses(bounds, trial.metrics, missing=1.0).values())

    refused = sum(trial.state == "refused" for trial in broken)
    said = f"{plural(len(broken), 'trial')} broke a constraint and cannot be the best"
    said += (
        f"; {refused} of them {'was' if refused == 1 else 'were'} known to before training, and not trained"
        if refused
        else ""
    )
    nearest = sorted(broken, key=lambda trial: (beyond(trial), trial.number))[:ROWS]
    heads = ["trial", "state", METRICS[asked.metric].title, "breaks", "values"]
    about = METRICS[asked.metric]
    cells = [
        [
            str(one.number),
            one.state,
            formatting.number(about, value(one, asked.metric)),
            str(one.breaks),
            formatting.changes(one.values),
        ]
        for one in nearest
    ]
    return [
        Heading("Outside the constraints"),
        Text(f"{said}. The nearest:"),
        Table(heads, [list(map(escaped, line)) for line in cells]),
    ]


def _table(trials: Sequence[Trial], asked: Asked) -> Table:
    bounded = [each.metric for each in parse(asked.constraints)]
    heads, cells = rows(trials, asked.metric, list(dict.fromkeys([*asked.objectives, *bounded, *SHOWN])))
    return Table(list(map(escaped, heads)), [list(map(escaped, line)) for line in cells], folds=True)


def _picked(asked: Asked, trial: Trial | None) -> list[Part]:
    """Return a sentence that names the trial in ``best.yaml`` and the rule that picked it."""
    if trial is None:
        return [Text(f"No trial on the front keeps the rule to pick one: {asked.pick}.", warns=True)]
    said = statement(trial, asked.metric, asked.pick if asked.objectives else None, asked.objectives)
    return [Text(escaped(said))]


def _best(asked: Asked, trial: Trial | None) -> list[Part]:
    """Return the changes of the picked trial to the base configuration."""
    if trial is None:
        return []
    base = asked.config()
    lines = [f"{path}: {chosen}" for path, chosen in changed(override(base, trial.values), base).items()]
    return [
        Text(f"What trial {trial.number}, the one picked, changes in the base:"),
        Code("\n".join(lines) or "# nothing", "yaml"),
    ]


def _direction(metric: str) -> str:
    return "higher" if METRICS[metric].higher_is_better else "lower"


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
    about = METRICS[metric]
    paths = ", ".join(scale.path for scale in scales)
    drawn = Picture(
        "parallel",
        search.parallel(order, scales, metric),
        "Each line is a trial, through the values it took, down to what it reached: from orange (worst) by grey to "
        f"blue (best); the black one is the best by {about.title.lower()}. Axes are logarithmic where the "
        "search drew logarithms.",
        f"Parallel coordinates of {len(order)} trials over {paths}, coloured by {about.title.lower()}.",
    )
    return [Heading("What was tried"), drawn, Heading("What mattered"), *_importance(order, scales, metric)]


def _importance(order: Sequence[Trial], scales: Sequence[Axis], metric: str) -> list[Part]:
    shares = importance.importance(order, scales, metric)
    if shares is None:
        return [
            Text(
                f"Too few trials to tell: {plural(len(order), 'trial')} gave a value, and shares of importance "
                f"are mostly chance below {importance.FEWEST}."
            )
        ]
    said = ", ".join(f"{path} {100 * share:.0f} %" for path, share in shares.items())
    return [
        Picture(
            "importance",
            search.bars(shares),
            f"How far the values of the best trials differ from those of all {len(order)} (PED-ANOVA); the shares sum "
            "to 100 %. A small share may be chance, and a path is important within its domain alone. Trials that were "
            "stopped early count with what they reached.",
            f"Bars of the importance of each searched path: {said}.",
        )
    ]


def _traded(asked: Asked, trials: Sequence[Trial], metrics: Sequence[str], picked: Trial | None) -> list[Part]:
    """Return the section on the Pareto front; empty if fewer than two trials have values of the objectives."""
    if len(judged(trials, metrics)) < 2 or not metrics:
        return []
    best = front(trials, metrics)
    titles = [METRICS[metric].title for metric in metrics]
    ringed = f" The ring is trial {picked.number}, the one picked." if picked and asked.objectives else ""
    crossed = (
        " Crosses break a constraint." if any(trial.breaks and trial.state != "refused" for trial in trials) else ""
    )
    cells = [
        [
            str(one.number),
            one.state,
            *(METRICS[name].number(value(one, name)) for name in metrics),
            formatting.changes(one.values),
        ]
        for one in best
    ]
    return [
        Heading("What is traded for what"),
        Picture(
            "pareto",
            search.pareto(trials, metrics, picked if asked.objectives else None),
            f"{' against '.join(titles).capitalize()}: a trial is on the front where no other one is as good in all "
            f"and better in one.{ringed}{crossed}",
            f"Scatter of {' against '.join(titles).lower()}; {plural(len(best), 'trial')} on the Pareto front.",
        ),
        Text("On the front:"),
        Table(["trial", "state", *titles, "values"], [list(map(escaped, line)) for line in cells]),
    ]
