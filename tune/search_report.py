"""The report of a search from its run folder alone: asked, found, what mattered, what to type next."""

from __future__ import annotations

from collections.abc import Sequence

from htt.config import changed, override
from htt.training.metric_table import METRICS
from tune import importance, page, search_figures, words
from tune.axes import Axis, axes
from tune.document import Code, Heading, Listing, Part, Picture, Table, Text, escaped
from tune.front import front, judged, objectives
from tune.listing import next_commands, rows
from tune.results import Asked, RunFolder, Trial, ranked, value

ROWS = 10


def write(folder: RunFolder) -> None:
    """Write ``report.md``, ``report.html`` and their pictures, each whole or not at all.

    Raises:
        RunError: the folder holds no run that can be read.
        StorageError: the disk is full, or may not be written to.
    """
    asked = folder.asked()
    page.publish(folder, asked.name, content(folder, asked, folder.trials()))


def content(folder: RunFolder, asked: Asked, trials: Sequence[Trial]) -> list[Part]:
    """All parts of the report, in the order in which they are read."""
    order = ranked(trials, asked.metric)
    parts: list[Part] = _question(asked, trials)
    if order:
        parts += [Heading("Best trials"), _table(order[:ROWS], asked.metric), *_difference(asked, order[0])]
        parts += [Heading("Progress"), _progress(order, asked.metric)]
        parts += _searched(order, axes(asked, order), asked.metric)
        parts += _traded(trials, objectives(asked, trials))
    else:
        parts.append(Text("No trial gave a value yet.", warns=True))
    failed = [trial for trial in trials if trial.error]
    if failed:
        parts += [
            Heading("Failed"),
            Listing([_failure(one) for one in failed[:ROWS]]),
        ]
    return [*parts, Heading("Next"), Code(next_commands(folder, bool(order)))]


def _failure(trial: Trial) -> str:
    return f"trial {trial.number}: {escaped(str(trial.error))}"


def _question(asked: Asked, trials: Sequence[Trial]) -> list[Part]:
    states = [trial.state for trial in trials]
    ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"
    about = METRICS[asked.metric]
    direction = "higher" if about.higher_is_better else "lower"
    return [
        Text(f"`{asked.command}`"),
        Text(
            f"Selected by `{asked.metric}` on the validation split, at a trial's last epoch ({direction} is better). "
            f"Space `{asked.space}`, algorithm {asked.algorithm}, scheduler {asked.scheduler}, seed {asked.seed}, "
            f"commit {escaped(asked.commit)}. Trials: {len(trials)} ({ended})."
        ),
        Text("Searched:"),
        Listing([f"`{path}`: {escaped(domain)}" for path, domain in asked.domains.items()]),
    ]


def _table(trials: Sequence[Trial], metric: str) -> Table:
    heads, cells = rows(trials, metric)
    return Table(list(map(escaped, heads)), [list(map(escaped, line)) for line in cells])


def _difference(asked: Asked, trial: Trial) -> list[Part]:
    base = asked.config()
    lines = [f"{path}: {chosen}" for path, chosen in changed(override(base, trial.values), base).items()]
    return [Text("What the best one changes in the base:"), Code("\n".join(lines) or "# nothing", "yaml")]


def _progress(order: Sequence[Trial], metric: str) -> Picture:
    about = METRICS[metric]
    return Picture(
        "progress",
        search_figures.progress(order, metric),
        f"{about.title} of each trial at its last epoch, when it ended; the line is the best so far.",
        f"{about.title} of {len(order)} trials over time; the best reached {about.number(value(order[0], metric))}.",
    )


def _searched(order: Sequence[Trial], scales: Sequence[Axis], metric: str) -> list[Part]:
    """What was tried, and what mattered."""
    if not scales or len(order) < 2:
        return []
    about = METRICS[metric]
    paths = ", ".join(scale.path for scale in scales)
    drawn = Picture(
        "parallel",
        search_figures.parallel(order, scales, metric),
        "Each line is a trial, through the values it took, down to what it reached: from orange (worst) by grey to "
        "blue (best); the black one is the best trial. Axes are logarithmic where the search drew logarithms.",
        f"Parallel coordinates of {len(order)} trials over {paths}, coloured by {about.title.lower()}.",
    )
    return [Heading("What was tried"), drawn, Heading("What mattered"), *_importance(order, scales, metric)]


def _importance(order: Sequence[Trial], scales: Sequence[Axis], metric: str) -> list[Part]:
    shares = importance.importance(order, scales, metric)
    if shares is None:
        return [
            Text(
                f"Too few trials to tell: {words.plural(len(order), 'trial')} gave a value, and shares of importance "
                f"are mostly chance below {importance.FEWEST}."
            )
        ]
    said = ", ".join(f"{path} {100 * share:.0f} %" for path, share in shares.items())
    return [
        Picture(
            "importance",
            search_figures.bars(shares),
            f"How far the values of the best trials differ from those of all {len(order)} (PED-ANOVA); the shares sum "
            "to 100 %. A small share may be chance, and a path is important within its domain alone. Trials that were "
            "stopped early count with what they reached.",
            f"Bars of the importance of each searched path: {said}.",
        )
    ]


def _traded(trials: Sequence[Trial], metrics: Sequence[str]) -> list[Part]:
    """What is traded for what, where there are two metrics to trade."""
    if len(judged(trials, metrics)) < 2 or not metrics:
        return []
    best = front(trials, metrics)
    titles = [METRICS[metric].title for metric in metrics]
    cells = [
        [
            str(one.number),
            one.state,
            *(METRICS[name].number(value(one, name)) for name in metrics),
            words.changes(one.values),
        ]
        for one in best
    ]
    return [
        Heading("What is traded for what"),
        Picture(
            "pareto",
            search_figures.pareto(trials, metrics),
            f"{' against '.join(titles).capitalize()}: a trial is on the front where no other one is as good in all "
            "and better in one.",
            f"Scatter of {' against '.join(titles).lower()}; {words.plural(len(best), 'trial')} on the Pareto front.",
        ),
        Text("On the front:"),
        Table(["trial", "state", *titles, "values"], [list(map(escaped, line)) for line in cells]),
    ]
