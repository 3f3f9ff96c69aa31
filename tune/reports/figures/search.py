"""Figures of a search: progress, parallel coordinates, importance and Pareto front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from htt.evaluation.metric_table import METRICS
from tune.reports import format as fmt
from tune.reports.figures.axes import Axis
from tune.reports.figures.style import BAD, GOOD, INK, OPEN, canvas, legend, plain_axes, row_canvas, wrapped
from tune.results.run_folder import Trial
from tune.results.selection import comparable, pareto_front, value

STATES = {"complete": (GOOD, "o"), "pruned": (BAD, "s"), "stopped": (OPEN, "D"), "cached": (OPEN, "o")}
FROM_BAD_TO_GOOD = LinearSegmentedColormap.from_list("from bad to good", [BAD, OPEN, GOOD])
ROW_IN = 0.68
BELOW = 0.36
"""Height of an axis's labels, as a share of a row."""
SHORT = 7
"""Longest label, in characters, that is centred on every tick."""
JITTER = 0.012
"""Largest shift of a line, as a share of the axis, so that lines through the same value stay apart."""
FAR = 3.0
"""Values more than this many times as far from the best as the median are drawn at the end of the axis."""


def progress(trials: Sequence[Trial], metric: str) -> Figure:
    """Draw each trial's value and the best so far over time.

    Args:
        trials: trials that have a value, at least one.
        metric: metric they are selected by.
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
    axes.set_xlabel("Time since the start of the search [min]")
    axes.set_ylabel(fmt.axis(about))
    plain_axes(axes)
    legend(figure, 5)
    return figure


def parallel(trials: Sequence[Trial], scales: Sequence[Axis], metric: str) -> Figure:
    """Draw parallel coordinates: a line for each trial through its values, coloured by its result.

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
        off = JITTER * ((trial.number * 0.618034) % 1 - 0.5) * 2
        across = [scale.place(trial.values[scale.path]) + (off if scale.is_discrete else 0) for scale in scales]
        best = trial is shown[0]
        axes.plot(
            *_broken([*across, share]), color=INK if best else FROM_BAD_TO_GOOD(share), linewidth=2.4 if best else 1.0,
            alpha=1.0 if best else 0.25 + 0.5 * share, zorder=3 if best else 2, solid_capstyle="round",
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


def bars(shares: Mapping[str, float]) -> Figure:
    """Draw the importance of each path as a bar."""
    figure, axes, at = row_canvas([wrapped(fmt.short(path)) for path in shares], 1.0)
    percent = [100 * share for share in shares.values()]
    drawn = axes.barh(at, percent, color=GOOD, height=0.22)
    axes.bar_label(drawn, [f"{each:.0f} %" if each >= 0.5 else "< 0.5 %" for each in percent], padding=4, fontsize=9)
    axes.set_xlim(0, max(*percent, 1.0) * 1.12)
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
    figure = canvas(4.2, max(8.0, 4.4 * len(others)))
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


def _broken(places: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return x and y of a line from axis to axis, with gaps for the labels below each axis."""
    x, y = [], []
    for row, (start, end) in enumerate(itertools.pairwise(places)):
        x += [start, end, math.nan]
        y += [row + BELOW, row + 1, math.nan]
    return x, y


def _ruler(axes: Axes, row: float, ticks: Sequence[tuple[float, str]]) -> None:
    """Draw a horizontal axis with its ticks and their labels below."""
    axes.plot([0, 1], [row, row], color=INK, linewidth=0.8, zorder=4)
    width = max(8, int(84 / max(1, len(ticks))))
    for place, label in ticks:
        axes.plot([place] * 2, [row - 0.06, row + 0.06], color=INK, linewidth=0.8, zorder=4)
        side, text = _towards_the_middle(place, label), wrapped(label, width, lines=2)
        axes.annotate(text, (place, row + 0.09), ha=side, va="top", fontsize=8, linespacing=0.95, zorder=5)


def _towards_the_middle(place: float, label: str) -> Literal["left", "center", "right"]:
    """Return the alignment of a label at its tick, so that a long label at an end stays within the axis."""
    if len(label) <= SHORT or 0.01 < place < 0.99:
        return "center"
    return "left" if place < 0.5 else "right"
