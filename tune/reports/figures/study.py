"""Figures of a study: differences, values of each seed, costs and learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from htt.evaluation.metric_table import METRICS, Metric
from htt.pages import style
from htt.pages.style import BAD, COLOURS, GOOD, INK, MARKERS, OPEN, canvas, plain_axes, wrapped
from htt.text import NOTHING
from tune.reports import format as fmt
from tune.results.stats import Claim, Comparison
from tune.results.study_results import MetricResults

TOGETHER = 4
"""Largest number of variants drawn in one panel of learning curves; more get a panel each, with the reference."""
COLUMNS = 3
BESIDE = 7
"""Largest number of seeds in one line of a legend."""
TAKES_LOGARITHM = 8.0
"""Ratio of the highest to the lowest cost from which the axis is logarithmic."""
CLAIMS = {Claim.BETTER: (GOOD, "better"), Claim.WORSE: (BAD, "worse")}
NO_CLAIM = (OPEN, "no claim")


def forest(result: MetricResults) -> Figure:
    """Draw each variant's difference to the reference with its interval; the better side of zero is shaded."""
    about = METRICS[result.metric]
    factor = fmt.scale(about)
    figure, axes, at = style.row_canvas([wrapped(row.variant) for row, _ in result.others], 1.5)
    for y, (_, found) in zip(at, result.others, strict=True):
        colour, label = CLAIMS.get(found.claim, NO_CLAIM)
        look: dict[str, Any] = {"color": colour, "markersize": 8, "markeredgewidth": 1.8, "solid_capstyle": "butt"}
        look["markerfacecolor"] = colour if found.claim.differs else style.PAPER
        if math.isfinite(found.difference):
            if math.isfinite(found.low):
                axes.plot([factor * found.low, factor * found.high], [y, y], color=colour, linewidth=2)
            axes.plot([factor * found.difference], [y], "o", **look)
            axes.plot([], [], "o-", label=label, **look)
        words, place = _in_words(about, found), ("axes fraction", "data")
        axes.annotate(words, (1.02, y), xycoords=place, va="center", fontsize=9)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_xlabel(fmt.of_difference(about))
    _mark_better_side(axes, about.higher_is_better)
    style.legend(figure, 3)
    return figure


def seeds(result: MetricResults, numbers: Sequence[int]) -> Figure:
    """Draw a dot for each seed of each variant; lines join a seed across variants, bars are means."""
    about = METRICS[result.metric]
    factor = fmt.scale(about)
    figure, axes, at = style.row_canvas([wrapped(row.variant) for row in result.rows], 1.4)
    table = factor * np.array([row.values for row in result.rows])  # [v s]
    named = len(numbers) <= len(COLOURS)
    for column, (seed, offset) in enumerate(zip(numbers, style.offsets(len(numbers)), strict=True)):
        x, y = table[:, column], np.array(at) + offset
        colour, marker = (COLOURS[column], MARKERS[column]) if named else (OPEN, "o")
        label = f"seed {seed}" if named else None
        axes.plot(x, y, marker, color=colour, markersize=6, alpha=0.9, zorder=3, label=label)
        known = np.isfinite(x)
        axes.plot(x[known], y[known], color=colour, linewidth=0.9, alpha=0.5, zorder=2)
    for middle, row in zip(at, result.rows, strict=True):
        axes.plot([factor * row.summary.mean] * 2, [middle - 0.17, middle + 0.17], color=INK, linewidth=2, zorder=4)
    axes.set_xlabel(fmt.axis(about))
    lines = math.ceil(len(numbers) / BESIDE)
    style.legend(figure, math.ceil(len(numbers) / lines), handletextpad=0.2)
    return figure


def cost(result: MetricResults, by: str) -> Figure | None:
    """Draw the cost of each variant against its difference to the reference.

    Args:
        result: results of one metric.
        by: kind of cost: "seconds" per trial, or "parameters" of the model.

    Returns:
        The figure, or None if fewer than two variants have a known cost and difference.
    """
    about = METRICS[result.metric]
    factor = fmt.scale(about)
    gains = [(result.reference, None, 0.0), *((row, found, found.difference) for row, found in result.others)]
    points = [
        (row, found, getattr(row, by), gain)
        for row, found, gain in gains
        if math.isfinite(getattr(row, by)) and math.isfinite(gain)
    ]
    if len(points) < 2:
        return None
    labels = [wrapped(row.variant + ("" if found else " (reference)"), 34) for row, found, *_ in points]
    figure = canvas(max(4.0, style.places(labels)[1] * 0.8 + 0.6))
    axes = figure.add_subplot()
    for number, ((_, found, price, gain), label) in enumerate(zip(points, labels, strict=True)):
        colour, marker = _look(number, found is None)
        bars = None
        if found and math.isfinite(found.low):
            bars = [[factor * (gain - found.low)], [factor * (found.high - gain)]]
        axes.errorbar(
            [price], [factor * gain], yerr=bars, fmt=marker, color=colour, markersize=8, elinewidth=1, label=label
        )
    plain_axes(axes)
    _cost_axis(axes, by, [price for _, _, price, _ in points])
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("\n".join(fmt.of_difference(about).split(", ")))
    axes.margins(x=0.08, y=0.1)
    if not about.higher_is_better:
        axes.invert_yaxis()
    axes.set_title("↑ better", loc="left", fontsize=9, color=GOOD)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelspacing=0.7)
    return figure


def curves(result: MetricResults) -> Figure | None:
    """Draw the metric over epochs: the mean over seeds and the band from the lowest to the highest seed.

    Returns:
        The figure, or None if no variant has a curve of at least two epochs.
    """
    known = {name: _padded(curves) for name, curves in result.curves.items()}
    if not known or max(table.shape[1] for table in known.values()) < 2:
        return None
    if len(known) <= TOGETHER:
        figure = canvas(4.2)
        panels = [(figure.add_subplot(), list(known))]
    else:
        reference = result.reference.variant
        others = [name for name in known if name != reference]
        columns = COLUMNS if len(others) % COLUMNS != 1 else COLUMNS - 1
        rows = math.ceil(len(others) / columns)
        titles = 1 + max(wrapped(name, 34).count("\n") for name in others)
        figure = canvas((1.9 + 0.18 * titles) * rows + 0.9)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        panels = [(axes, [reference, name]) for axes, name in zip(grid, others, strict=False)]
        for spare in grid[len(others) :]:
            spare.set_axis_off()
        for above in grid[max(0, len(others) - columns) : len(others)]:
            above.tick_params(labelbottom=True)
    for axes, names in panels:
        _curves_on(axes, known, names, result, alone=len(panels) == 1)
    figure.supxlabel("Epoch", fontsize=10)
    figure.supylabel(fmt.axis(METRICS[result.metric]), fontsize=10)
    style.legend(figure, 2 if len(panels) == 1 else 1)
    return figure


def _curves_on(
    axes: Axes, known: Mapping[str, np.ndarray], names: Sequence[str], result: MetricResults, *, alone: bool
) -> None:
    factor = fmt.scale(METRICS[result.metric])
    for number, name in enumerate(name for name in names if name in known):
        reference = name == result.reference.variant
        colour = (OPEN if reference else GOOD) if not alone else (INK if reference else COLOURS[number - 1])
        label = wrapped(name + (" (reference)" if reference else ""), 44)
        table = factor * known[name]
        epochs = np.arange(1, table.shape[1] + 1)
        axes.plot(epochs, table.mean(axis=0), color=colour, label=label if alone or reference else None, linewidth=1.8)
        axes.fill_between(epochs, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    if not alone:
        axes.set_title(wrapped(names[-1], 34), fontsize=9)
    plain_axes(axes, ticks=5)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def _padded(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the curves as [s e], cut to the epochs that all seeds have."""
    length = min(len(curve) for curve in curves)
    return np.array([list(curve)[:length] for curve in curves], float)


def _in_words(about: Metric, found: Comparison) -> str:
    if not found.n:
        return "no seed in common with the reference"
    span = fmt.difference_span(about, found.low, found.high)
    return fmt.difference(about, found.difference) + ("" if span == NOTHING else f"\n[{span}]")


def _mark_better_side(axes: Axes, higher_is_better: bool) -> None:
    low, high = axes.get_xlim()
    low, high = min(low, -0.02 * (high - low)), max(high, 0.02 * (high - low))
    axes.set_xlim(low, high)
    axes.axvspan(*((0, high) if higher_is_better else (low, 0)), color=GOOD, alpha=0.08, linewidth=0)
    axes.set_xlim(low, high)
    where, side = ("right", "better →") if higher_is_better else ("left", "← better")
    axes.set_title(side, loc=where, fontsize=9, color=GOOD)  # type: ignore[arg-type]


def _look(number: int, reference: bool) -> tuple[str, str]:
    """Return the colour and marker of a variant; no two variants of a study share both."""
    if reference:
        return INK, "*"
    return COLOURS[(number - 1) % len(COLOURS)], MARKERS[(number - 1 + (number - 1) // len(COLOURS)) % len(MARKERS)]


def _cost_axis(axes: Axes, by: str, prices: Sequence[float]) -> None:
    low, high = min(prices), max(prices)
    spread = high / low if low > 0 else math.inf
    logarithmic = TAKES_LOGARITHM <= spread < math.inf
    size, unit = fmt.measure(math.sqrt(low * high) if logarithmic else high, by)
    axes.set_xlabel(f"Time a trial takes [{unit}]" if by == "seconds" else "Parameters of the model")
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0) if spread < 300 else (1.0,), numticks=7))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=style.STEPS))
    if by == "seconds":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda price, _: f"{price / size:g}"))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda price, _: fmt.count(price).replace(".0 ", " ")))
