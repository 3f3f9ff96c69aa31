"""Figures of an evaluation: joints within a distance (PCK), early action, and confusion of actions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from htt.evaluation.sums import Curve, early_area

PANELS = (("", "camera space"), ("_ra", "relative to the wrist"))
LINES = {"": ("all hands", "black"), "_left": ("left hand", "tab:blue"), "_right": ("right hand", "tab:orange")}
FORECASTS = {
    "forecast": ("forecast", "black", "o-"),
    "kept": ("last pose kept", "tab:blue", "s--"),
    "velocity": ("constant velocity", "tab:orange", "^:"),
}
"""{forecast or baseline: (words, colour, style)}"""
SHOWN_COUNTS = 50
"""Largest number of actions for which the cells of the confusion matrix show counts."""


def draw_pck(curves: Mapping[str, Mapping[str, Sequence[float]]], title: str, path: Path) -> None:
    """Draw the share of joints within a distance, with 95 % bands, in camera space and relative to the wrist.

    Args:
        curves: curves as in ``Scores.curves``; for a data set with one hand, only its line is drawn.
        title: title above both panels.
        path: path of the PNG.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    figure.suptitle(title)
    both = "hand_auc_left" in curves
    for place, (space, words) in enumerate(PANELS):
        axes = figure.add_subplot(1, 2, place + 1)
        for suffix, (name, colour) in LINES.items():
            curve = curves.get(f"hand_auc{space}{suffix}")
            if curve and (both or not suffix):
                _line(axes, curve, name if both else "hand", colour)
        axes.set(xlabel="Distance [mm]", ylabel="Joints within the distance [%]", title=words, ylim=(0, 100))
        axes.margins(x=0)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, format="png", dpi=120)


def draw_early(curve: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Draw the accuracy of actions over the observed share of the clips, with 95 % intervals.

    Args:
        curve: curve of the early action as in ``Scores.curves``.
        title: title of the figure.
        path: path of the PNG.
    """
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    share, accuracy = 100 * np.array(curve["share"]), 100 * np.array(curve["fraction"])
    area = float(early_area(np.array(curve["fraction"])))
    axes.plot(share, accuracy, marker="o", color="black", label=f"AUC {area:.3f}")
    if "low" in curve:
        low, high = 100 * np.array(curve["low"]), 100 * np.array(curve["high"])
        axes.fill_between(share, low, high, color="black", alpha=0.15, linewidth=0)
    axes.set(xlabel="Observed share of the clip [%]", ylabel="Action accuracy [%]", title=title, ylim=(0, 100))
    axes.set_xticks(share)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, format="png", dpi=120)


def draw_confusion(counts: np.ndarray, names: Sequence[str], title: str, path: Path) -> None:
    """Draw the number of clips of each true action (rows) per predicted action (columns), coloured by share of a row.

    Args:
        counts: clips, [a a].
        names: names of the actions.
        title: title of the figure.
        path: path of the PNG.
    """
    side = 3.0 + 0.24 * len(names)
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    places = np.arange(len(names))
    axes.set_xticks(places, names, rotation=90, fontsize=7)
    axes.set_yticks(places, names, fontsize=7)
    axes.set_xticks(places[1:] - 0.5, minor=True)
    axes.set_yticks(places[1:] - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set(xlabel="Predicted action", ylabel="True action", title=title)
    if len(names) <= SHOWN_COUNTS:
        for row, column in np.argwhere(counts):
            colour = "white" if share[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.6, label="Share of the true action's clips [%]")
    figure.savefig(path, format="png", dpi=120)


def draw_forecast(forecast: Mapping[str, Any], title: str, path: Path) -> None:
    """Draw the error of forecast hands over the time ahead, with 95 % bands, beside those of both baselines.

    Args:
        forecast: errors as in ``Scores.forecast``.
        title: title of the figure.
        path: path of the PNG.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, (words, colour, style) in FORECASTS.items():
        error = forecast[name]
        axes.plot(forecast["time_s"], error["error_mm"], style, color=colour, label=words, markersize=4)
        if "low" in error:
            axes.fill_between(forecast["time_s"], error["low"], error["high"], color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel="Time ahead [s]", ylabel="Hand error [mm]", title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, format="png", dpi=120)


def _line(axes: Axes, curve: Mapping[str, Sequence[float]], name: str, colour: str) -> None:
    distance, fraction = np.array(curve["distance_mm"]), np.array(curve["fraction"])
    area = float(Curve(distance, fraction).area)
    axes.plot(distance, 100 * fraction, color=colour, label=f"{name}, AUC {area:.3f}")
    if "low" in curve:
        low, high = np.array(curve["low"]), np.array(curve["high"])
        axes.fill_between(distance, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
