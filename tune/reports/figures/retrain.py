"""Figure of a retraining: every fresh seed on both splits, and the number of the search."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from htt.evaluation.metric_table import METRICS
from tune.reports import format as fmt
from tune.reports.figures.style import BAD, GOOD, INK, OPEN, STEPS, canvas, plain_axes
from tune.results.retrain import SPLITS, VALIDATION, Retrained
from tune.results.stats import summarise

SPREAD_IN = 0.14
"""Largest offset of a seed from the middle of its row, so that equal values all stay visible."""


def seeds(found: Retrained, metrics: Sequence[str]) -> Figure:
    """Draw a panel for each metric and a row for each split: dots are seeds, a bar is their mean and interval."""
    figure = canvas(1.55 * max(1, len(metrics)) + 0.7)
    grid = figure.subplots(max(1, len(metrics)), 1, squeeze=False).ravel()
    for axes, metric in zip(grid, metrics, strict=False):
        _panel(axes, found, metric)
    handles = {label: line for axes in grid for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    return figure


def _panel(axes: Axes, found: Retrained, metric: str) -> None:
    about = METRICS[metric]
    factor = fmt.scale(about)
    splits = [split for split in SPLITS if metric in found.metrics(split)]
    for row, split in enumerate(splits):
        _row(axes, row, factor * found.values(split, metric), factor * np.array(about.range))
    searched = found.searched.get(metric, math.nan)
    if VALIDATION in splits and math.isfinite(searched):
        label = "the search's best trial"
        axes.plot([factor * searched], [splits.index(VALIDATION)], "*", color=BAD, markersize=12, zorder=4, label=label)
    axes.set_yticks(range(len(splits)), splits)
    axes.set_ylim(len(splits) - 0.5, -0.5)
    axes.set_xlabel(fmt.axis(about))
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=STEPS))
    axes.margins(x=0.08)
    plain_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _row(axes: Axes, row: int, values: np.ndarray, within: np.ndarray) -> None:
    beside = np.linspace(-SPREAD_IN, SPREAD_IN, len(values)) if len(values) > 1 else np.zeros(len(values))
    mean = summarise(values, (within[0], within[1]))
    if math.isfinite(mean.low):
        axes.plot([mean.low, mean.high], [row, row], color=INK, linewidth=1.6, zorder=2, label="mean and its interval")
    axes.plot([mean.mean] * 2, [row - 0.22, row + 0.22], color=INK, linewidth=2, zorder=2)
    axes.plot(
        values, row + beside, "o", color=GOOD, markeredgecolor=OPEN, markersize=6, alpha=0.9, zorder=3,
        label="a fresh seed",
    )  # fmt: skip
