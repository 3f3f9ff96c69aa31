"""Shared style of the figures: canvas without a window, colours for light and dark pages, SVG and PNG output."""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from htt import files

INK = "#000000"
"""Colour of the figure's own lines; on an HTML page it becomes the colour of the text."""
PAPER = "#ffffff"
"""Colour of the page, for markers that hide the lines behind them."""
GOOD, BAD, OPEN = "#2a7fd0", "#d9730d", "#8a9099"
"""Colours of better, worse and no claim; distinct for colour-blind readers, on white and on black."""
COLOURS = ("#2a7fd0", "#d9730d", "#2e9e5b", "#c2479a", "#8c6bd1", "#b08d1c", "#17a2b0", "#d1495b", "#7a8794", "#8a5a3c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
STEPS = [1, 2, 2.5, 5, 10]
"""Allowed distances between ticks, times a power of ten."""
SPREAD = 0.11
"""Largest offset of a point from the middle of its row."""
WIDTH_IN = 12.0
"""Width of a figure: as wide as the page, with letters of the size of the text."""
LABEL_WIDTH = 30
"""Characters in one line of a label."""
_PROLOGUE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)
_NAMED = re.compile(r'(\bid="|href="#|url\(#)')


def canvas(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure whose layout keeps labels apart."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, grid: Literal["both", "x", "y"] = "both", ticks: int = 6) -> None:
    """Remove the frame and background of the axes, draw a faint grid, and set round ticks on the gridded axes."""
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=OPEN, alpha=0.3, linewidth=0.7)
    axes.set_axisbelow(True)
    for name in ("x", "y") if grid == "both" else (grid,):
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_locator(MaxNLocator(ticks, steps=STEPS))


def row_axes(axes: Axes, labels: Sequence[str], at: Sequence[float], height: float) -> None:
    """Set up axes whose rows, from top to bottom, have labels instead of ticks."""
    axes.set_yticks(at, labels)
    axes.set_ylim(height, 0)
    plain_axes(axes, "x")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def row_canvas(labels: Sequence[str], margin_in: float) -> tuple[Figure, Axes, list[float]]:
    """Return a figure with a row for each wrapped label, its axes, and the middle of each row, in inches."""
    at, height = places(labels)
    figure = canvas(height + margin_in)
    axes = figure.add_subplot()
    row_axes(axes, labels, at, height)
    return figure, axes, at


def legend(figure: Figure, columns: int, **options: Any) -> None:
    """Draw a legend above the axes with each label of them once; none if nothing has a label."""
    pairs = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes]
    handles = {label: handle for each in pairs for handle, label in each}
    if handles:
        figure.legend(
            handles.values(), handles, loc="outside upper center", ncols=columns, frameon=False, fontsize=9, **options
        )


def offsets(count: int) -> np.ndarray:
    """Return offsets of points from the middle of their row, so that equal values all stay visible."""
    return np.linspace(-SPREAD, SPREAD, count) if count > 1 else np.zeros(count)


def wrapped(text: str, width: int = LABEL_WIDTH, lines: int = 4) -> str:
    """Return a label wrapped into at most ``lines`` lines; the last one is cut if the label is longer."""
    literal = " ".join(text.split()).replace("$", r"\$")  # an unescaped dollar sign starts a formula
    found = textwrap.wrap(literal, width) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], found[lines - 1][: width - 1].rstrip() + "…"]
    return "\n".join(found)


def places(labels: Sequence[str]) -> tuple[list[float], float]:
    """Return the middle of each row of wrapped labels, from 0 downwards, and the height of all rows, in inches."""
    heights = [max(0.38, 0.2 * (label.count("\n") + 1) + 0.12) for label in labels]
    middles = [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)]
    return middles, sum(heights)


def svg(figure: Figure, name: str, alternative: str) -> str:
    """Return the figure as an SVG element for a page: text stays text, ids are unique, black is the text colour."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        buffer = io.StringIO()
        _save(figure, buffer, format="svg")
    drawing = _PROLOGUE.sub("", buffer.getvalue()).strip()
    drawing = _NAMED.sub(rf"\g<1>{name}-", drawing).replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    words = html.escape(alternative, quote=True)
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure as a PNG on a white background, atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    with files.replacing(path) as beside:
        _save(figure, beside, format="png", dpi=130, facecolor=PAPER)


def _save(figure: Figure, to: Path | io.StringIO, **options: Any) -> None:
    """Save the figure, and keep its layout for the next format: computing it takes a third of the time."""
    figure.savefig(to, **options)
    figure.set_layout_engine("none")
