"""Figures of a search: progress, parallel coordinates, importance and Pareto front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from htt.evaluation.metric_table import METRICS
from tune.reports import format as fmt
from tune.reports.figures.axes import Axis
from tune.reports.figures.style import BAD, GOOD, INK, OPEN, STEPS, canvas, plain_axes, wrapped
from tune.results.run_folder import Trial
from tune.results.selection import front, judged, value

STATES = {"complete": (GOOD, "o"), "pruned": (BAD, "s"), "stopped": (OPEN, "D"), "reused": (OPEN, "o")}
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
    pick = max if about.higher_is_better else min
    best = [pick(found for _, found, _ in points[: count + 1]) for count in range(len(points))]
    axes.step([at for at, _, _ in points], best, where="post", color=INK, label="best so far")
    axes.set_xlabel("Time since the search began [min]")
    axes.set_ylabel(fmt.axis(about))
    for scale in (axes.xaxis, axes.yaxis):
        scale.set_major_locator(MaxNLocator(6, steps=STEPS))
    plain_axes(axes)
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
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
    good = _goodness(shown, metric)
    figure = canvas(ROW_IN * (len(scales) + 1) + 0.5)
    axes = figure.add_subplot()
    rows = range(len(scales) + 1)
    for trial, share in reversed(list(zip(shown, good, strict=True))):
        off = JITTER * ((trial.number * 0.618034) % 1 - 0.5) * 2
        across = [scale.place(trial.values[scale.path]) + (off if _gathers(scale) else 0) for scale in scales]
        best = trial is shown[0]
        axes.plot(
            *_broken([*across, share]), color=INK if best else FROM_BAD_TO_GOOD(share), linewidth=2.4 if best else 1.0,
            alpha=1.0 if best else 0.25 + 0.5 * share, zorder=3 if best else 2, solid_capstyle="round",
        )  # fmt: skip
    for row, scale in zip(rows, scales, strict=False):
        _ruler(axes, row, scale.ticks())
    _ruler(axes, rows[-1], _metric_ticks(shown, metric))
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
    names = [wrapped(fmt.short(path)) for path in shares]
    figure = canvas(0.36 * len(shares) + 1.0)
    axes = figure.add_subplot()
    percent = [100 * share for share in shares.values()]
    drawn = axes.barh(range(len(shares)), percent, color=GOOD, height=0.6)
    axes.bar_label(drawn, [f"{each:.0f} %" if each >= 0.5 else "< 0.5 %" for each in percent], padding=4, fontsize=9)
    axes.set_yticks(range(len(shares)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, max(*percent, 1.0) * 1.12)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.set_xlabel("Share of the importance [%]")
    plain_axes(axes, "x")
    axes.tick_params(axis="y", length=0)
    return figure


def pareto(trials: Sequence[Trial], metrics: Sequence[str], picked: Trial | None = None) -> Figure:
    """Draw the first objective against each other one; a line joins the trials on the Pareto front.

    Args:
        trials: trials of the search.
        metrics: objectives of the search.
        picked: trial to mark with a ring, or None.
    """
    best = front(trials, metrics)
    outside = [
        trial for trial in trials if trial.violation and all(math.isfinite(value(trial, metric)) for metric in metrics)
    ]
    others = [trial for trial in judged(trials, metrics) if trial not in best]
    panels = metrics[1:]
    units = {name: _unit(trials, name)[0] for name in metrics}
    figure = canvas(4.2, 8.0 if len(panels) < 2 else 4.4 * len(panels))
    for place, metric in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), place + 1)
        pair = (metrics[0], metric)
        if outside:
            axes.plot(*_points(outside, pair, units), "x", color=BAD, alpha=0.8, label="breaks a constraint")
        axes.plot(
            *_points(others, pair, units), "o", color=OPEN, markerfacecolor="none", alpha=0.8, label="beaten by another"
        )
        two = front(best, pair) if len(panels) > 1 else best
        axes.plot(*_points(two, pair, units), "-", color=GOOD, linewidth=1.2)
        axes.plot(*_points(best, pair, units), "o", color=GOOD, label="on the front")
        if picked:
            axes.plot(
                *_points([picked], pair, units), "o", color=INK, label="picked",
                markersize=13, markerfacecolor="none", markeredgewidth=1.6,
            )  # fmt: skip
        axes.set_xlabel(_unit(trials, pair[0])[1])
        axes.set_ylabel(_unit(trials, pair[1])[1])
        arrow = {(0, 1): "↖", (1, 1): "↗", (0, 0): "↙", (1, 0): "↘"}
        right, up = (int(METRICS[name].higher_is_better) for name in pair)
        axes.set_title(f"{arrow[right, up]} better", loc="right" if right else "left", fontsize=9, color=GOOD)
        for scale in (axes.xaxis, axes.yaxis):
            scale.set_major_locator(MaxNLocator(6, steps=STEPS))
        plain_axes(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    return figure


def _points(
    trials: Sequence[Trial], pair: Sequence[str], units: Mapping[str, float]
) -> tuple[list[float], list[float]]:
    first, second = ([units[name] * value(trial, name) for trial in trials] for name in pair)
    return first, second


def _unit(trials: Sequence[Trial], name: str) -> tuple[float, str]:
    """Return the factor for a metric's values on an axis, and the label of the axis."""
    about = METRICS[name]
    if not about.is_count:
        return fmt.scale(about), fmt.axis(about)
    largest = max((found for trial in trials if math.isfinite(found := value(trial, name))), default=0.0)
    size, unit = fmt.measure(largest, name)
    return 1 / size, f"{about.title} [{unit}]" if unit else about.title


def _ends(trials: Sequence[Trial], metric: str) -> tuple[float, float]:
    """Return the values at the left and right end of a metric's axis; the right one is the best."""
    found = [value(trial, metric) for trial in trials]
    best, worst = (max, min) if METRICS[metric].higher_is_better else (min, max)
    right = best(found)
    far = right + FAR * (float(np.median(found)) - right)
    return (far if far != right and abs(far - right) < abs(worst(found) - right) else worst(found)), right


def _goodness(trials: Sequence[Trial], metric: str) -> list[float]:
    """Return a score for each trial: 1 for the best value, 0 for values at or beyond the left end of the axis."""
    left, right = _ends(trials, metric)
    if left == right:
        return [1.0] * len(trials)
    return [float(np.clip((value(trial, metric) - left) / (right - left), 0, 1)) for trial in trials]


def _metric_ticks(trials: Sequence[Trial], metric: str) -> list[tuple[float, str]]:
    left, right = _ends(trials, metric)
    if left == right:
        return [(1.0, METRICS[metric].number(right))]
    cut = " or worse" if any(abs(value(trial, metric) - right) > abs(left - right) for trial in trials) else ""
    middle = (left + right) / 2
    number = METRICS[metric].number
    return [(0.0, number(left) + cut), (0.5, number(middle)), (1.0, f"{number(right)}, best")]


def _broken(places: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return x and y of a line from axis to axis, with gaps for the labels below each axis."""
    x, y = [], []
    for row, (start, end) in enumerate(itertools.pairwise(places)):
        x += [start, end, math.nan]
        y += [row + BELOW, row + 1, math.nan]
    return x, y


def _gathers(scale: Axis) -> bool:
    """Return whether many trials can share a value."""
    return scale.choices is not None or scale.whole


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
