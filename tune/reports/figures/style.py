"""Shared style of the figures: canvas without a window, colours for light and dark pages, SVG and PNG output."""

from __future__ import annotations

import html
import io
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
LABEL_WIDTH = 30
"""Characters in one line of a label."""
WIDTH_IN = 8.0
_PROLOGUE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)
_NAMED = re.compile(r'(\bid="|href="#|url\(#)')


def canvas(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """Return an empty figure whose layout keeps labels apart."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, grid: str = "both") -> None:
    """Remove the frame and background of the axes, and draw a faint grid along "x", "y" or "both"."""
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=OPEN, alpha=0.3, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def wrapped(text: str, width: int = LABEL_WIDTH, lines: int = 4) -> str:
    """Return a label wrapped into at most ``lines`` lines; the last one is cut if the label is longer."""
    found = textwrap.wrap(_safe(text), width) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], found[lines - 1][: width - 1].rstrip() + "…"]
    return "\n".join(found)


def rows_in(labels: Sequence[str], least: float = 0.38) -> list[float]:
    """Return the height of each row of wrapped labels, in inches."""
    return [max(least, 0.2 * (label.count("\n") + 1) + 0.12) for label in labels]


def places(labels: Sequence[str]) -> tuple[list[float], float]:
    """Return the middle of each row of wrapped labels, from 0 downwards, and the height of all rows, in inches."""
    heights = rows_in(labels)
    middles = [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)]
    return middles, sum(heights)


def svg(figure: Figure, name: str, alternative: str) -> str:
    """Return the figure as an SVG element for a page: text stays text, ids are unique, black is the text colour."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
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
        figure.savefig(beside, format="png", dpi=130, facecolor=PAPER)


def _safe(text: str) -> str:
    """Return text that matplotlib shows literally; an unescaped dollar sign starts a formula."""
    return " ".join(text.split()).replace("$", r"\$")
