"""Figures of a study: differences, values of each seed, costs and learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from htt.evaluation.metric_table import METRICS
from tune.reports import format as fmt
from tune.reports.figures.style import (
    BAD,
    COLOURS,
    GOOD,
    INK,
    MARKERS,
    OPEN,
    PAPER,
    STEPS,
    canvas,
    places,
    plain_axes,
    wrapped,
)
from tune.results.stats import Claim, Comparison
from tune.results.study_results import Finding, Row

TOGETHER = 4
"""Largest number of variants drawn in one panel of learning curves; more get a panel each, with the reference."""
COLUMNS = 3
BESIDE = 7
"""Largest number of seeds in one line of a legend."""
SPREAD_IN = 0.11
"""Largest offset of a seed from the middle of its row, in inches, so that equal values all stay visible."""
TAKES_LOGARITHM = 8.0
"""Ratio of the highest to the lowest cost from which the axis is logarithmic."""
CLAIMS = {Claim.BETTER: (GOOD, "better"), Claim.WORSE: (BAD, "worse")}
NO_CLAIM = (OPEN, "no claim")


def forest(finding: Finding) -> Figure:
    """Draw each variant's difference to the reference with its interval; the better side of zero is shaded."""
    about = METRICS[finding.metric]
    factor = fmt.scale(about)
    labels = [wrapped(row.variant) for row, _ in finding.others]
    at, height = places(labels)
    figure = canvas(height + 1.5)
    axes = figure.add_subplot()
    for y, (_, found) in zip(at, finding.others, strict=True):
        _interval(axes, y, found, factor)
        axes.annotate(
            _in_words(finding.metric, found), (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(at, labels)
    axes.set_ylim(height, 0)
    axes.set_xlabel(fmt.of_difference(about))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    _mark_better_side(axes, about.higher_is_better)
    plain_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _legend_of_claims(figure, axes, [found for _, found in finding.others])
    return figure


def seeds(finding: Finding, numbers: Sequence[int]) -> Figure:
    """Draw a dot for each seed of each variant; lines join a seed across variants, bars are means."""
    factor = fmt.scale(METRICS[finding.metric])
    labels = [wrapped(row.variant) for row in finding.rows]
    at, height = places(labels)
    figure = canvas(height + 1.4)
    axes = figure.add_subplot()
    table = factor * np.array([row.values for row in finding.rows])  # [v s]
    named = len(numbers) <= len(COLOURS)
    beside = np.linspace(-SPREAD_IN, SPREAD_IN, len(numbers)) if len(numbers) > 1 else [0.0]
    for column, seed in enumerate(numbers):
        y = np.array(at) + beside[column]
        colour, marker = (COLOURS[column], MARKERS[column]) if named else (OPEN, "o")
        label = f"seed {seed}" if named else None
        axes.plot(table[:, column], y, marker, color=colour, markersize=6, alpha=0.9, zorder=3, label=label)
        there = np.isfinite(table[:, column])
        axes.plot(table[there, column], y[there], color=colour, linewidth=0.9, alpha=0.5, zorder=2)
    for y, row in zip(at, finding.rows, strict=True):
        axes.plot([factor * row.summary.mean] * 2, [y - 0.17, y + 0.17], color=INK, linewidth=2, zorder=4)
    axes.set_yticks(at, labels)
    axes.set_ylim(height, 0)
    axes.set_xlabel(fmt.axis(METRICS[finding.metric]))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    plain_axes(axes, "x")
    if named:
        lines = math.ceil(len(numbers) / BESIDE)
        columns = math.ceil(len(numbers) / lines)
        figure.legend(loc="outside upper center", ncols=columns, frameon=False, handletextpad=0.2)
    return figure


def cost(finding: Finding, by: str) -> Figure | None:
    """Draw the cost of each variant against its difference to the reference.

    Args:
        finding: results of one metric.
        by: kind of cost: "seconds" per trial, or "parameters" of the model.

    Returns:
        The figure, or None if fewer than two variants have a known cost and difference.
    """
    about = METRICS[finding.metric]
    factor = fmt.scale(about)
    points: list[tuple[Row, float, float, Comparison | None]] = [
        (row, getattr(row, by), 0.0, None) for row in finding.rows[:1]
    ]
    points += [(row, getattr(row, by), found.difference, found) for row, found in finding.others]
    points = [point for point in points if math.isfinite(point[1]) and math.isfinite(point[2])]
    if len(points) < 2:
        return None
    labels = [wrapped(row.variant + (" (reference)" if found is None else ""), 34) for row, *_, found in points]
    figure = canvas(max(4.0, places(labels)[1] * 0.8 + 0.6), 9.0)
    axes = figure.add_subplot()
    for number, ((_, price, gain, found), label) in enumerate(zip(points, labels, strict=True)):
        colour, marker = _look(number, found is None)
        bars = None
        if found is not None and math.isfinite(found.low):
            bars = [[factor * (gain - found.low)], [factor * (found.high - gain)]]
        axes.errorbar(
            [price], [factor * gain], yerr=bars, fmt=marker, color=colour, markersize=8, elinewidth=1, label=label
        )
    _cost_axis(axes, by, [price for _, price, _, _ in points])
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_ylabel("\n".join(fmt.of_difference(about).split(", ")))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.margins(x=0.08, y=0.1)
    if not about.higher_is_better:
        axes.invert_yaxis()
    axes.set_title("↑ better", loc="left", fontsize=9, color=GOOD)
    plain_axes(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelspacing=0.7)
    return figure


def curves(finding: Finding) -> Figure | None:
    """Draw the metric over epochs: the mean over seeds and the band from the lowest to the highest seed.

    Returns:
        The figure, or None if no variant has a curve of at least two epochs.
    """
    known = {name: _padded(curves) for name, curves in finding.curves.items()}
    if not known or max(table.shape[1] for table in known.values()) < 2:
        return None
    if len(known) <= TOGETHER:
        figure = canvas(4.2)
        panels = [(figure.add_subplot(), list(known))]
    else:
        reference = finding.reference.variant
        others = [name for name in known if name != reference]
        columns = COLUMNS if len(others) % COLUMNS != 1 else COLUMNS - 1
        rows = math.ceil(len(others) / columns)
        titles = 1 + max(wrapped(name, 34).count("\n") for name in others)
        figure = canvas((1.9 + 0.18 * titles) * rows + 0.9, 9.0)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        panels = [(axes, [reference, name]) for axes, name in zip(grid, others, strict=False)]
        for spare in grid[len(others) :]:
            spare.set_axis_off()
        for above in grid[max(0, len(others) - columns) : len(others)]:
            above.tick_params(labelbottom=True)
    for axes, names in panels:
        _curves_on(axes, known, names, finding, alone=len(panels) == 1)
    figure.supxlabel("Epoch", fontsize=10)
    figure.supylabel(fmt.axis(METRICS[finding.metric]), fontsize=10)
    handles = {label: line for axes, _ in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    side_by_side = 2 if len(panels) == 1 else 1
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=side_by_side, frameon=False, fontsize=9)
    return figure


def _curves_on(
    axes: Axes, known: Mapping[str, np.ndarray], names: Sequence[str], finding: Finding, *, alone: bool
) -> None:
    factor = fmt.scale(METRICS[finding.metric])
    for number, name in enumerate(name for name in names if name in known):
        reference = name == finding.reference.variant
        colour = (OPEN if reference else GOOD) if not alone else (INK if reference else COLOURS[number - 1])
        label = wrapped(name + (" (reference)" if reference else ""), 44)
        table = factor * known[name]
        epochs = np.arange(1, table.shape[1] + 1)
        axes.plot(epochs, table.mean(axis=0), color=colour, label=label if alone or reference else None, linewidth=1.8)
        axes.fill_between(epochs, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.18, linewidth=0)
    if not alone:
        axes.set_title(wrapped(names[-1], 34), fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    plain_axes(axes)


def _padded(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the curves as [s e], cut to the epochs that all seeds have."""
    length = min(len(curve) for curve in curves)
    return np.array([list(curve)[:length] for curve in curves], float)


def _interval(axes: Axes, y: float, found: Comparison, factor: float) -> None:
    if not math.isfinite(found.difference):
        return
    colour, _ = _claim(found)
    filled = found.claim.differs
    if math.isfinite(found.low):
        axes.plot([factor * found.low, factor * found.high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot(
        [factor * found.difference], [y], "o", markersize=8, color=colour, markeredgecolor=colour, markeredgewidth=1.8,
        markerfacecolor=colour if filled else PAPER,
    )  # fmt: skip


def _claim(found: Comparison) -> tuple[str, str]:
    return CLAIMS.get(found.claim, NO_CLAIM)


def _in_words(metric: str, found: Comparison) -> str:
    about = METRICS[metric]
    if not found.n:
        return "no seed in common with the reference"
    span = fmt.difference_span(about, found.low, found.high)
    return fmt.difference(about, found.difference) + ("" if span == fmt.NOTHING else f"\n[{span}]")


def _mark_better_side(axes: Axes, higher_is_better: bool) -> None:
    low, high = axes.get_xlim()
    low, high = min(low, -0.02 * (high - low)), max(high, 0.02 * (high - low))
    axes.set_xlim(low, high)
    axes.axvspan(*((0, high) if higher_is_better else (low, 0)), color=GOOD, alpha=0.08, linewidth=0)
    axes.set_xlim(low, high)
    where, side = ("right", "better →") if higher_is_better else ("left", "← better")
    axes.set_title(side, loc=where, fontsize=9, color=GOOD)  # type: ignore[arg-type]


def _legend_of_claims(figure: Figure, axes: Axes, found: Sequence[Comparison]) -> None:
    for colour, label in dict.fromkeys(_claim(one) for one in found if one.n):
        filled = label != "no claim"
        face = colour if filled else PAPER
        axes.plot([], [], "o-", color=colour, markerfacecolor=face, markeredgewidth=1.8, label=label)
    if any(one.n for one in found):
        figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9)


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
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=STEPS))
    if by == "seconds":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda price, _: f"{price / size:g}"))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda price, _: fmt.count(price).replace(".0 ", " ")))
