"""What all figures of the reports share: a canvas without a window, colours for light and dark paper, SVG and PNG."""

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
"""Lines of the figure itself; on a page they take the colour of its text."""
PAPER = "#ffffff"
"""What hides the lines behind it: the colour of the page."""
GOOD, BAD, OPEN = "#2a7fd0", "#d9730d", "#8a9099"
"""Better, worse, and nothing that could be said: told apart by those who see few colours, on white and on black."""
COLOURS = ("#2a7fd0", "#d9730d", "#2e9e5b", "#c2479a", "#8c6bd1", "#b08d1c", "#17a2b0", "#d1495b", "#7a8794", "#8a5a3c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
STEPS = [1, 2, 2.5, 5, 10]
"""Between ticks, times a power of ten."""
LABEL_WIDTH = 30
"""Letters of a label in one line."""
WIDTH_IN = 8.0
_PROLOGUE = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)
_NAMED = re.compile(r'(\bid="|href="#|url\(#)')


def canvas(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure that keeps its labels apart."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    figure.patch.set_alpha(0)
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, grid: str = "both") -> None:
    """Axes without a frame, on transparent paper, with a faint grid along "x", "y" or "both"."""
    axes.patch.set_alpha(0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color=OPEN, alpha=0.3, linewidth=0.7)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def wrapped(text: str, width: int = LABEL_WIDTH, lines: int = 4) -> str:
    """A label on as many lines as it takes, the last one cut where it takes more than ``lines``."""
    found = textwrap.wrap(_safe(text), width) or [""]
    if len(found) > lines:
        found = [*found[: lines - 1], found[lines - 1][: width - 1].rstrip() + "…"]
    return "\n".join(found)


def rows_in(labels: Sequence[str], least: float = 0.38) -> list[float]:
    """The height of each row of wrapped labels, in."""
    return [max(least, 0.2 * (label.count("\n") + 1) + 0.12) for label in labels]


def places(labels: Sequence[str]) -> tuple[list[float], float]:
    """Where rows of wrapped labels stand, from 0 downwards, so that none touches the next; and their height, in."""
    heights = rows_in(labels)
    middles = [sum(heights[:row]) + height / 2 for row, height in enumerate(heights)]
    return middles, sum(heights)


def svg(figure: Figure, name: str, alternative: str) -> str:
    """The figure as an SVG element for a page: text is text, names are its own, black is the page's ink."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
    drawing = _PROLOGUE.sub("", buffer.getvalue()).strip()
    drawing = _NAMED.sub(rf"\g<1>{name}-", drawing).replace(INK, "currentColor").replace(PAPER, "var(--paper)")
    words = html.escape(alternative, quote=True)
    return drawing.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)


def save_png(figure: Figure, path: Path) -> None:
    """The figure as a PNG on white paper, whole or not at all.

    Raises:
        StorageError: the disk is full, or may not be written to.
    """
    with files.replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=130, facecolor=PAPER)


def _safe(text: str) -> str:
    """Text that matplotlib takes as it stands: a dollar sign begins a formula."""
    return " ".join(text.split()).replace("$", r"\$")
