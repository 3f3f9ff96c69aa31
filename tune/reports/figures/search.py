"""Figures of a search: progress, learning curves, slices, parallel coordinates, importance and Pareto front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from htt.evaluation.metric_table import METRICS
from htt.pages.style import (
    BAD,
    GOOD,
    INK,
    OPEN,
    PAPER,
    WIDTH_IN,
    canvas,
    legend,
    plain_axes,
    row_canvas,
    wrapped,
)
from tune.reports import format as fmt
from tune.reports.figures.axes import Axis
from tune.results.run_folder import Trial
from tune.results.selection import comparable, pareto_front, value

STATES = {"complete": (GOOD, "o"), "pruned": (BAD, "s"), "stopped": (OPEN, "D"), "cached": (OPEN, "o")}
ORDER = LinearSegmentedColormap.from_list("order", ["#b9c3cf", "#2a7fd0", "#5b2a86"])
"""Colours of the first to the last trial."""
FROM_BAD_TO_GOOD = LinearSegmentedColormap.from_list("from bad to good", [BAD, OPEN, GOOD])
ROW_IN = 0.8
COLUMNS = 4
"""Panels of slices side by side."""
LETTERS = 34
"""Letters of the tick labels that fit side by side below a panel."""
SPREAD = 0.03
"""Largest shift of a point of a slice, as a share of the axis."""
STEPS = 16
"""Straight pieces of a line of the parallel coordinates between two axes."""
BEYOND = 0.5
"""A reference line is drawn up to this share of the figure's range beyond its points."""
SHORT = 7
"""Longest label, in characters, that is centred on every tick."""
JITTER = 0.025
"""Largest shift of a line, as a share of the axis, so that lines through the same value stay apart."""
FAR = 3.0
"""Values more than this many times as far from the best as the median are drawn at the end of the axis."""


def progress(trials: Sequence[Trial], metric: str, references: Mapping[str, float] | None = None) -> Figure:
    """Draw each trial's value and the best so far over time.

    Args:
        trials: trials that have a value, at least one.
        metric: metric they are selected by.
        references: {label: value of the metric} of horizontal lines.
    """
    about = METRICS[metric]
    factor = fmt.scale(about)
    points = sorted((trial.finished_s / 60, factor * value(trial, metric), trial.state) for trial in trials)
    figure = canvas(4.0)
    axes = figure.add_subplot()
    for state, (colour, marker) in STATES.items():
        some = [point for point in points if point[2] == state]
        if some:
            axes.plot([at for at, _, _ in some], [found for _, found, _ in some], marker, color=colour, label=state)
    at, values, _ = zip(*points, strict=True)
    best = itertools.accumulate(values, max if about.higher_is_better else min)
    axes.step(at, list(best), where="post", color=INK, label="best so far")
    _lines(axes, references, metric)
    axes.set_xlabel("Time since the start of the search [min]")
    axes.set_ylabel(fmt.axis(about))
    plain_axes(axes)
    legend(figure, 4)
    return figure


def curves(trials: Sequence[Trial], metric: str, references: Mapping[str, float] | None = None) -> Figure | None:
    """Draw the metric of each trial over its epochs; a trial that was stopped early ends with a square.

    Args:
        trials: trials that have a value, best first.
        metric: metric they are selected by.
        references: {label: value of the metric} of horizontal lines.

    Returns:
        The figure, or None if no trial has a curve of at least two epochs.
    """
    known = [trial for trial in trials if trial.curve]
    if max((len(trial.curve) for trial in known), default=0) < 2:
        return None
    factor, figure = fmt.scale(METRICS[metric]), canvas(4.4)
    axes = figure.add_subplot()
    labels = {"pruned": "stopped early", "stopped": "interrupted"}
    for trial in reversed(known):
        best, stopped = trial is trials[0], trial.state == "pruned"
        colour, ends = STATES.get(trial.state, STATES["stopped"])
        axes.plot(
            range(1, len(trial.curve) + 1), [factor * each for each in trial.curve], marker=ends if stopped else None,
            markevery=[-1], markersize=4, color=INK if best else colour, linewidth=2.4 if best else 0.9,
            alpha=1.0 if best else 0.5, zorder=4 if best else 3 if stopped else 2,
            label=f"best, trial {trial.number}" if best else labels.get(trial.state, trial.state),
        )  # fmt: skip
    _lines(axes, references, metric)
    axes.set_xlabel("Epoch")
    axes.set_ylabel(fmt.axis(METRICS[metric]))
    plain_axes(axes)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    legend(figure, 4)
    return figure


def slices(trials: Sequence[Trial], scales: Sequence[Axis], metric: str) -> Figure:
    """Draw a panel for each searched path: the values of all trials against the metric, coloured by their order.

    Args:
        trials: trials that have a value, best first.
        scales: axes of the searched paths.
        metric: metric they are selected by.
    """
    about, rows = METRICS[metric], math.ceil(len(scales) / COLUMNS)
    factor = fmt.scale(about)
    figure = canvas(2.5 * rows + 0.9)
    grid = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False).ravel()
    left, right = sorted(_ends([value(trial, metric) for trial in trials], metric))
    norm = Normalize(min(trial.number for trial in trials), max(trial.number for trial in trials))
    for axes, scale in zip(grid, scales, strict=False):
        some = [trial for trial in trials if scale.path in trial.values]
        across = [scale.place(trial.values[scale.path]) + SPREAD * _shift(trial) * scale.is_discrete for trial in some]
        up = [factor * min(max(value(trial, metric), left), right) for trial in some]
        axes.scatter(across, up, c=[trial.number for trial in some], norm=norm, cmap=ORDER, s=18, linewidths=0)
        if trials[0] in some:
            place = some.index(trials[0])
            axes.plot(across[place], up[place], "o", color=INK, markerfacecolor="none", markersize=9, label="best")
        plain_axes(axes, "y", ticks=4)
        places, labels = zip(*scale.ticks(), strict=True)
        upright = 90 if sum(map(len, labels)) > LETTERS else 0
        axes.set_xticks(places, [wrapped(label, 14, lines=2) for label in labels], fontsize=8, rotation=upright)
        axes.set_xlim(-0.08, 1.08)
        axes.set_title(wrapped(fmt.short(scale.path), 34), fontsize=10)
    for spare in grid[len(scales) :]:
        spare.set_axis_off()
    figure.supylabel(fmt.axis(about), fontsize=10)
    bar = figure.colorbar(ScalarMappable(norm, ORDER), ax=grid, shrink=0.6, aspect=30, pad=0.01, label="Trial")
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(5, integer=True)
    legend(figure, 1)
    return figure


def parallel(trials: Sequence[Trial], scales: Sequence[Axis], metric: str) -> Figure:
    """Draw parallel coordinates: one line for each trial through its values on all axes, coloured by its result.

    Lines are curved so that they cross each axis at a right angle: a line can be followed through the crowd.

    Args:
        trials: trials that have a value, best first.
        scales: axes of the searched paths, one row each from top to bottom; the last row is the metric, better to the
            right.
        metric: metric they are selected by.
    """
    shown = [trial for trial in trials if all(scale.path in trial.values for scale in scales)]
    values = [value(trial, metric) for trial in shown]
    good = _goodness(values, metric)
    figure = canvas(ROW_IN * (len(scales) + 1) + 0.5)
    axes = figure.add_subplot()
    rows = range(len(scales) + 1)
    for trial, share in reversed(list(zip(shown, good, strict=True))):
        off = JITTER * _shift(trial)
        across = [scale.place(trial.values[scale.path]) + (off if scale.is_discrete else 0) for scale in scales]
        best = trial is shown[0]
        axes.plot(
            *_curved([*across, share]), color=INK if best else FROM_BAD_TO_GOOD(share), linewidth=2.4 if best else 1.0,
            alpha=1.0 if best else 0.25 + 0.5 * share, zorder=3 if best else 2 + share / 2, solid_capstyle="round",
        )  # fmt: skip
    for row, scale in zip(rows, scales, strict=False):
        _ruler(axes, row, scale.ticks())
    _ruler(axes, rows[-1], _metric_ticks(values, metric))
    axes.set_yticks(rows, [*(wrapped(fmt.short(scale.path), 26) for scale in scales), METRICS[metric].title])
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_ylim(rows[-1] + 0.62, -0.25)
    axes.set_xlim(-0.06, 1.06)
    axes.set_xticks([])
    axes.patch.set_alpha(0)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def bars(shares: Mapping[str, float], spans: Mapping[str, tuple[float, float]]) -> Figure:
    """Draw the importance of each path as a bar, with its 95 % interval as a line."""
    figure, axes, at = row_canvas([wrapped(fmt.short(path)) for path in shares], 1.0)
    percent = [100 * share for share in shares.values()]
    axes.barh(at, percent, color=GOOD, height=0.22)
    for y, path in zip(at, shares, strict=True):
        low, high = (100 * end for end in spans[path])
        axes.plot([low, high], [y, y], color=INK, linewidth=1.4, solid_capstyle="butt")
        share = 100 * shares[path]
        text = f"{share:.0f} %" if share >= 0.5 else "< 0.5 %"
        axes.annotate(f"{text} [{low:.0f} to {high:.0f}]", (max(share, high), y), (6, 0), textcoords="offset points",
                      va="center", fontsize=9)  # fmt: skip
    axes.set_xlim(0, max(1.0, *percent, *(100 * high for _, high in spans.values())) * 1.16)
    axes.set_xlabel("Share of the importance [%]")
    return figure


def pareto(trials: Sequence[Trial], metrics: Sequence[str], picked: Trial | None = None) -> Figure:
    """Draw the first objective against each other one; a line joins the trials on the Pareto front.

    Args:
        trials: trials of the search.
        metrics: objectives of the search.
        picked: trial to mark with a ring, or None.
    """
    first, *others = metrics
    best = pareto_front(trials, metrics)
    broken = [trial for trial in trials if trial.violation]
    outside = [trial for trial in broken if all(math.isfinite(value(trial, name)) for name in metrics)]
    beaten = [trial for trial in comparable(trials, metrics) if trial not in best]
    units = {name: _unit(trials, name) for name in metrics}
    figure = canvas(4.2, max(WIDTH_IN, 4.4 * len(others)))
    for axes, other in zip(figure.subplots(1, len(others), squeeze=False).ravel(), others, strict=True):

        def draw(some: Sequence[Trial], marker: str, axes: Axes = axes, other: str = other, **look: Any) -> None:
            points = ([units[name][0] * value(trial, name) for trial in some] for name in (first, other))
            axes.plot(*points, marker, **look)

        if outside:
            draw(outside, "x", color=BAD, alpha=0.8, label="violates a constraint")
        draw(beaten, "o", color=OPEN, markerfacecolor="none", alpha=0.8, label="dominated")
        draw(pareto_front(best, (first, other)) if len(others) > 1 else best, "-", color=GOOD, linewidth=1.2)
        draw(best, "o", color=GOOD, label="Pareto front")
        if picked:
            look: dict[str, Any] = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 1.6}
            draw([picked], "o", color=INK, label="picked", **look)
        axes.set_xlabel(units[first][1])
        axes.set_ylabel(units[other][1])
        right, up = METRICS[first].higher_is_better, METRICS[other].higher_is_better
        arrow = ("↙↘", "↖↗")[up][right]
        axes.set_title(f"{arrow} better", loc="right" if right else "left", fontsize=9, color=GOOD)
        plain_axes(axes)
    legend(figure, 4)
    return figure


def _unit(trials: Sequence[Trial], name: str) -> tuple[float, str]:
    """Return the factor for a metric's values on an axis, and the label of the axis."""
    about = METRICS[name]
    if not about.is_count:
        return fmt.scale(about), fmt.axis(about)
    largest = max((found for trial in trials if math.isfinite(found := value(trial, name))), default=0.0)
    size, unit = fmt.measure(largest, name)
    return 1 / size, f"{about.title} [{unit}]" if unit else about.title


def _ends(values: Sequence[float], metric: str) -> tuple[float, float]:
    """Return the values at the left and right end of a metric's axis; the right one is the best."""
    best, worst = (max, min) if METRICS[metric].higher_is_better else (min, max)
    right, left = best(values), worst(values)
    far = right + FAR * (float(np.median(values)) - right)
    return (far if 0 < abs(far - right) < abs(left - right) else left), right


def _goodness(values: Sequence[float], metric: str) -> np.ndarray:
    """Return a score for each value: 1 for the best, 0 for values at or beyond the left end of the axis."""
    left, right = _ends(values, metric)
    return np.ones(len(values)) if left == right else np.clip((np.array(values) - left) / (right - left), 0, 1)


def _metric_ticks(values: Sequence[float], metric: str) -> list[tuple[float, str]]:
    (left, right), number = _ends(values, metric), METRICS[metric].number
    if left == right:
        return [(1.0, number(right))]
    cut = " or worse" if any(abs(each - right) > abs(left - right) for each in values) else ""
    return [(0.0, number(left) + cut), (0.5, number((left + right) / 2)), (1.0, f"{number(right)}, best")]


def _lines(axes: Axes, references: Mapping[str, float] | None, metric: str) -> None:
    """Draw horizontal lines; one far beyond the points is only named in the legend, or it would press them together."""
    about = METRICS[metric]
    low, high = axes.get_ylim()
    for (label, at), dashes in zip((references or {}).items(), ("--", ":", "-."), strict=False):
        y, room = fmt.scale(about) * at, BEYOND * (high - low)
        seen = low - room <= y <= high + room
        words = f"{label}, {about.number(at)}" + ("" if seen else " (beyond the figure)")
        axes.plot([], [], dashes, color=INK, linewidth=1.2, label=words)
        if seen:
            axes.axhline(y, linestyle=dashes, color=INK, linewidth=1.2)


def _shift(trial: Trial) -> float:
    """Return a number from -1 to 1 that differs between successive trials, to keep equal values apart."""
    return ((trial.number * 0.618034) % 1 - 0.5) * 2


def _curved(places: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of one line through all axes, which crosses each of them at a right angle."""
    y = np.linspace(0, len(places) - 1, STEPS * (len(places) - 1) + 1)
    row = np.minimum(y.astype(int), len(places) - 2)
    share = y - row
    start, end = np.array(places)[row], np.array(places)[row + 1]
    return start + (end - start) * share**2 * (3 - 2 * share), y


def _ruler(axes: Axes, row: float, ticks: Sequence[tuple[float, str]]) -> None:
    """Draw a horizontal axis with its ticks and their labels below."""
    axes.plot([0, 1], [row, row], color=INK, linewidth=0.8, zorder=4)
    width = max(8, int(84 / max(1, len(ticks))))
    for place, label in ticks:
        axes.plot([place] * 2, [row - 0.06, row + 0.06], color=INK, linewidth=0.8, zorder=4)
        side, text = _towards_the_middle(place, label), wrapped(label, width, lines=2)
        behind = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.75}
        axes.annotate(text, (place, row + 0.09), ha=side, va="top", fontsize=8, linespacing=0.95, zorder=5, bbox=behind)


def _towards_the_middle(place: float, label: str) -> Literal["left", "center", "right"]:
    """Return the alignment of a label at its tick, so that a long label at an end stays within the axis."""
    if len(label) <= SHORT or 0.01 < place < 0.99:
        return "center"
    return "left" if place < 0.5 else "right"
