"""Figures of a model's attention: over time, by distance, after the removal of frames, and under the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from htt.inference.attention import ATTENDED, MEASURES, RANDOM, SHIFTED, USUAL, Distances, Removal
from htt.pages.style import COLOURS, INK, OPEN, WIDTH_IN, canvas, legend, plain_axes

STYLES = {
    ATTENDED: ("most attended frames", COLOURS[1], "o"),
    RANDOM: ("random frames", COLOURS[0], "s"),
    SHIFTED: ("attended frames, shifted in time", COLOURS[2], "^"),
    USUAL: ("frames that other clips attend to", COLOURS[4], "D"),
}
"""{frames that are removed: name, colour and marker}"""
MARKED = STYLES[ATTENDED][1]
PICTURES = 10
"""Number of frames in a film strip."""
_COLUMNS = 3
_STRIPS_DPI = 150
"""Resolution of the pictures of a film strip on a page, pixels per inch of the figure."""
_TITLE_IN, _LINES_IN, _BARS_IN = 0.32, 0.14, 0.8
"""Heights of the parts of a film strip, inches: title, lines from pictures to frames, bars."""
_RELATIVE = "Attention (1: all frames alike)"


@dataclass(frozen=True)
class Strip:
    """Film strip of one clip."""

    title: str
    frames: np.ndarray
    """[p] index of the frame of each picture in the clip."""
    images: np.ndarray
    """[p h w 3] pictures, uint8."""
    attention: np.ndarray
    """[t] attention to each frame of the clip, relative to equal attention."""
    marked: np.ndarray
    """[t] True for the most attended frames."""


def over_time(profiles: np.ndarray) -> Figure:
    """Draw the action token's attention over the clip: a panel per layer, a line per head.

    Args:
        profiles: [layers heads bins] mean attention of the clips in equal parts, relative to equal attention.
    """
    bins = profiles.shape[-1]
    return _layers((np.arange(bins) + 0.5) / bins, profiles, "Position in the clip", (0, 1))


def by_distance(distances: Distances) -> Figure:
    """Draw block P's attention by signed distance in time: a panel per layer, a line per head."""
    seen = distances.equal > 0
    at = distances.distance[seen]
    label = "Distance in time [frames of a window]; negative: the attended frame is earlier"
    return _layers(at, distances.relative[..., seen], label, (at[0], at[-1]))


def _layers(at: np.ndarray, values: np.ndarray, label: str, ends: tuple[float, float]) -> Figure:
    layers, heads = values.shape[:2]
    columns = min(layers, _COLUMNS)
    rows = -(-layers // columns)
    figure = canvas(0.8 + 2.9 * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    few = heads <= len(COLOURS)
    for place, axes in enumerate(panels.flat):
        if place >= layers:
            axes.set_axis_off()
            continue
        axes.axhline(1, color=OPEN, linewidth=1, linestyle="--")
        for head in range(heads):
            colour, name = (COLOURS[head], f"head {head + 1}") if few else (OPEN, None)
            axes.plot(at, values[place, head], color=colour, linewidth=1.1, alpha=0.8, label=name)
        axes.plot(at, values[place].mean(axis=0), color=INK, linewidth=2.2, label="mean of the heads")
        axes.set_title(f"Layer {place + 1}", fontsize=10)
        plain_axes(axes)
    panels[0, 0].set(xlim=ends, ylim=(0, 1.05 * np.nanmax(values)))
    figure.supxlabel(label, fontsize=10)
    figure.supylabel(_RELATIVE, fontsize=10)
    legend(figure, 9)
    return figure


def of_actions(values: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw the action token's attention for each action (row) over the clip, those that attend early first.

    Args:
        values: [a bins] mean attention of the action's clips, relative to equal attention.
        names: name of each row.
    """
    rows, bins = values.shape
    order = np.argsort(values @ np.arange(bins), kind="stable")
    height = max(0.2 * rows, 2.0)
    figure = canvas(1.0 + height)
    axes = figure.add_subplot()
    norm = PowerNorm(0.5, vmin=0, vmax=max(2.0, float(values.max())))
    cells = axes.pcolormesh(np.arange(bins + 1) / bins, np.arange(rows + 1), values[order], cmap="Blues", norm=norm)
    axes.set_ylim(rows, 0)
    axes.set_yticks(np.arange(rows) + 0.5, [_literal(names[row]) for row in order], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Position in the clip")
    figure.colorbar(cells, ax=axes, shrink=min(1.0, 3.2 / height), label=_RELATIVE)
    return figure


def after_removal(removal: Removal) -> Figure:
    """Draw accuracy and probability after removals, and their differences with 95 % intervals, by number of frames."""
    figure = canvas(6.4)
    panels = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": (1.25, 1)})
    at = np.arange(len(removal.counts))
    for column, measure in enumerate(MEASURES):
        above, below = panels[:, column]
        whole = 100 * removal.values(measure, removal.whole).mean()
        above.axhline(whole, color=INK, linewidth=1.2, linestyle="--", label="all frames")
        below.axhline(0, color=INK, linewidth=1)
        for place, which in enumerate((ATTENDED, *removal.controls)):
            name, colour, marker = STYLES[which]
            line = 100 * removal.after(measure, which).mean(axis=1)
            above.plot(at, line, color=colour, marker=marker, markersize=5, label=f"without {name}")
            if which == ATTENDED:
                continue
            falls = [fall for fall in removal.falls if (fall.measure, fall.control) == (measure, which) and fall.frames]
            for middle, fall in zip(at + 0.14 * (place - 2), falls, strict=True):
                if fall.interval:
                    below.plot([middle] * 2, 100 * np.array(fall.interval), color=colour, linewidth=2)
                below.plot(middle, 100 * fall.difference, color=colour, marker=marker, markersize=5)
        above.set_ylabel("Action accuracy [%]" if measure == "accuracy" else "Probability of the true action [%]")
        below.set_ylabel("Difference to the control [points]")
        for axes in (above, below):
            plain_axes(axes)
        below.set_xticks(at, [str(count) for count in removal.counts])
        below.set_xlabel("Frames removed from each window")
    legend(figure, 3)
    return figure


def film_strips(strips: Sequence[Strip]) -> Figure:
    """Draw film strips, each with the attention of the action token under its frames."""
    left, inner = 0.62, WIDTH_IN - 0.72
    _, high, wide, _ = strips[0].images.shape
    image = inner / PICTURES * high / wide
    each = _TITLE_IN + image + _LINES_IN + _BARS_IN + 0.3
    height = each * len(strips) + 0.25
    figure = canvas(height)
    figure.set_layout_engine("none")
    figure.set_dpi(_STRIPS_DPI)
    for place, strip in enumerate(strips):
        top = height - each * place - _TITLE_IN
        pictures, bars = (
            figure.add_axes((left / WIDTH_IN, (top - down) / height, inner / WIDTH_IN, size / height))
            for down, size in ((image, image), (image + _LINES_IN + _BARS_IN, _BARS_IN))
        )
        _draw_pictures(pictures, strip)
        _draw_bars(bars, strip)
        if place == len(strips) - 1:
            bars.set_xlabel("Frame", labelpad=1, fontsize=9)
    return figure


def _draw_pictures(axes: Axes, strip: Strip) -> None:
    """Draw the pictures of a strip side by side, each with a line to its frame below."""
    width, count = 1 / len(strip.frames), len(strip.attention)
    for place, (frame, image) in enumerate(zip(strip.frames, strip.images, strict=True)):
        start = place * width
        colour, line = (MARKED, 2.2) if strip.marked[frame] else (OPEN, 0.8)
        axes.imshow(image, extent=(start, start + width, 0, 1), aspect="auto", interpolation="lanczos")
        edge = Rectangle((start, 0), width, 1, fill=False, edgecolor=colour, linewidth=line, clip_on=False)
        edge.set_zorder(3 if strip.marked[frame] else 2)
        axes.add_patch(edge)
        down = axes.bbox.height / axes.figure.dpi
        ends = [start + width / 2, (frame + 0.5) / count], [0, -_LINES_IN / down]
        axes.plot(*ends, color=colour, linewidth=0.8, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()
    axes.set_title(_literal(strip.title), fontsize=9, loc="left", pad=4)


def _draw_bars(axes: Axes, strip: Strip) -> None:
    """Draw the attention to each frame of a clip."""
    count = len(strip.attention)
    colours = [MARKED if marked else STYLES[RANDOM][1] for marked in strip.marked]
    axes.bar(np.arange(count) + 0.5, strip.attention, width=0.9, color=colours)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, count), ylim=(0, 1.08 * max(2.0, strip.attention.max())))
    axes.set_ylabel("Attention", fontsize=8)
    plain_axes(axes, "y", 4)
    frames = [int(each) for each in MaxNLocator(12, integer=True).tick_values(0, count - 1) if 0 <= each < count]
    axes.set_xticks(np.array(frames) + 0.5, [str(frame) for frame in frames])
    axes.tick_params(labelsize=8)


def _literal(text: str) -> str:
    """Return text without the start of a formula."""
    return text.replace("$", r"\$")
