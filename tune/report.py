"""The report of a run: what was asked, what was found, how fast, and what to type next."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from htt.config import changed, override
from htt.training.metric_table import METRICS
from tune.results import Asked, RunFolder, Trial, ranked, value, write_text

SHOWN = ("hand_error_mm", "action_accuracy", "object_accuracy", "loss")
"""Metrics a table shows beside the one selected by."""
ROWS = 10


def write(folder: RunFolder) -> None:
    """Write ``report.md`` and its picture from what the run folder holds."""
    asked, trials = folder.asked(), folder.trials()
    drawn = draw(folder.path / "progress.png", trials, asked.metric)
    write_text(folder.report, text(folder, asked, trials, drawn))


def text(folder: RunFolder, asked: Asked, trials: Sequence[Trial], drawn: bool) -> str:
    """The report as Markdown."""
    order = ranked(trials, asked.metric)
    parts = [f"# {asked.name}", _question(asked, trials)]
    if order:
        parts += ["## Best trials", table(order[:ROWS], asked.metric), _difference(asked, order[0])]
    else:
        parts.append("No trial gave a value yet.")
    if drawn:
        parts.append("## Progress\n\n![best so far over time](progress.png)")
    failed = [trial for trial in trials if trial.error]
    if failed:
        parts.append("## Failed\n\n" + "\n".join(f"- trial {one.number}: {one.error}" for one in failed[:ROWS]))
    parts.append(f"## Next\n\n```\n{next_commands(folder, bool(order))}\n```")
    return "\n\n".join(parts) + "\n"


def rows(trials: Sequence[Trial], metric: str, shown: Sequence[str] = SHOWN) -> tuple[list[str], list[list[str]]]:
    """The heads and cells of a table of trials: state, epochs, metrics, and what was searched.

    The metrics are the one selected by, and those of ``shown`` that were recorded.
    """
    metrics = [metric, *(name for name in shown if name != metric and any(name in one.metrics for one in trials))]
    paths = list(dict.fromkeys(path for trial in trials for path in trial.values))
    cells = [
        [
            str(trial.number),
            trial.state,
            str(trial.epochs),
            *(METRICS[name].number(value(trial, name)) for name in metrics),
            *(_cell(trial.values.get(path)) for path in paths),
        ]
        for trial in trials
    ]
    titles = [METRICS[name].title for name in metrics]
    return ["trial", "state", "epochs", *titles, *(path.replace("model.", "") for path in paths)], cells


def table(trials: Sequence[Trial], metric: str) -> str:
    """The trials as a Markdown table."""
    heads, cells = rows(trials, metric)
    lines = [heads, ["---"] * len(heads), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def draw(path: Path, trials: Sequence[Trial], metric: str) -> bool:
    """Draw each trial's value and the best so far over time; whether there was anything to draw."""
    points = sorted((trial.finished_s / 60, value(trial, metric), trial.state) for trial in ranked(trials, metric))
    if not points:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    about = METRICS[metric]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for state, colour in (("complete", "tab:blue"), ("pruned", "tab:orange"), ("stopped", "tab:grey")):
        some = [point for point in points if point[2] == state]
        if some:
            axes.plot([at for at, _, _ in some], [number for _, number, _ in some], "o", color=colour, label=state)
    pick = max if about.higher_is_better else min
    best = [pick(number for _, number, _ in points[: count + 1]) for count in range(len(points))]
    axes.step([at for at, _, _ in points], best, where="post", color="black", label="best so far")
    axes.set_xlabel("Time since the search began [min]")
    axes.set_ylabel(f"{about.title}, validation" + (f" [{about.unit}]" if about.unit else ""))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    beside = path.with_suffix(".part")
    figure.savefig(beside, format="png", dpi=120)
    beside.replace(path)
    return True


def next_commands(folder: RunFolder, found: bool) -> str:
    """What to type next."""
    run = shown(folder.path)
    lines = [f"python cluster/launch.py --config {run}/best.yaml"] if found else []
    lines += [
        f"python tune/best.py {run} --top 10",
        f"python tune/search.py --resume {run} --time-budget 10m",
        f"optuna-dashboard {run}/optuna.journal",
    ]
    return "\n".join(lines)


def shown(path: Path) -> str:
    """The path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _question(asked: Asked, trials: Sequence[Trial]) -> str:
    states = [trial.state for trial in trials]
    ended = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "none"
    about = METRICS[asked.metric]
    direction = "higher" if about.higher_is_better else "lower"
    searched = "\n".join(f"- `{path}`: {domain}" for path, domain in asked.domains.items())
    return (
        f"`{asked.command}`\n\n"
        f"Selected by `{asked.metric}` on the validation split, at a trial's last epoch ({direction} is better). "
        f"Space `{asked.space}`, algorithm {asked.algorithm}, scheduler {asked.scheduler}, seed {asked.seed}, "
        f"commit {asked.commit}. Trials: {len(trials)} ({ended}).\n\nSearched:\n\n{searched}"
    )


def _difference(asked: Asked, trial: Trial) -> str:
    base = asked.config()
    lines = [f"{path}: {chosen}" for path, chosen in changed(override(base, trial.values), base).items()]
    return "What the best one changes in the base:\n\n```yaml\n" + ("\n".join(lines) or "# nothing") + "\n```"


def _cell(chosen: object) -> str:
    return f"{chosen:.3g}" if isinstance(chosen, float) else str(chosen)
