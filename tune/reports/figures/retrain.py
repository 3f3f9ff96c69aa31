"""Figure of a retraining: every fresh seed on both splits, and the number of the search."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from htt.evaluation.metric_table import METRICS
from htt.pages.style import BAD, GOOD, INK, OPEN, canvas, legend, offsets, row_axes
from tune.reports import format as fmt
from tune.results.retrain import SPLITS, VALIDATION, Retraining
from tune.results.stats import summarise


def seeds(retraining: Retraining, metrics: Sequence[str]) -> Figure:
    """Draw a panel for each metric and a row for each split: dots are seeds, a bar is their mean and interval."""
    figure = canvas(1.55 * len(metrics) + 0.7)
    for axes, metric in zip(figure.subplots(len(metrics), 1, squeeze=False).ravel(), metrics, strict=True):
        _panel(axes, retraining, metric)
    legend(figure, 3)
    return figure


def _panel(axes: Axes, retraining: Retraining, metric: str) -> None:
    about = METRICS[metric]
    factor = fmt.scale(about)
    splits = [split for split in SPLITS if metric in retraining.metrics(split)]
    rows = [row + 0.5 for row in range(len(splits))]
    for row, split in zip(rows, splits, strict=True):
        values = factor * retraining.values(split, metric)
        mean = summarise(values, (factor * about.range[0], factor * about.range[1]))
        if math.isfinite(mean.low):
            axes.plot(
                [mean.low, mean.high], [row] * 2, color=INK, linewidth=1.6, zorder=2, label="mean and its interval"
            )
        axes.plot([mean.mean] * 2, [row - 0.22, row + 0.22], color=INK, linewidth=2, zorder=2)
        axes.plot(
            values, row + offsets(len(values)), "o", color=GOOD, markeredgecolor=OPEN, markersize=6, alpha=0.9,
            zorder=3, label="a fresh seed",
        )  # fmt: skip
    searched = retraining.searched.get(metric, math.nan)
    if VALIDATION in splits and math.isfinite(searched):
        row = rows[splits.index(VALIDATION)]
        axes.plot([factor * searched], [row], "*", color=BAD, markersize=12, zorder=4, label="the search's best trial")
    row_axes(axes, splits, rows, len(splits))
    axes.set_xlabel(fmt.axis(about))
    axes.margins(x=0.08)
