"""Figures of a model's attention: over time, by distance, after the removal of frames, and under the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from htt.inference.attention import ATTENDED, MEASURES, RANDOM, SHIFTED, USUAL, Distances, Removal

STYLES = {
    ATTENDED: ("most attended frames", "#d9730d", "o"),
    RANDOM: ("random frames", "#2a7fd0", "s"),
    SHIFTED: ("attended frames, shifted in time", "#2e9e5b", "^"),
    USUAL: ("frames that other clips attend to", "#8c6bd1", "D"),
}
"""{frames that are removed: name, colour and marker}"""
MARKED, GREY = STYLES[ATTENDED][1], "#8a9099"
PICTURES = 10
"""Number of frames in a film strip."""
_COLUMNS = 3
_DPI = 150
_TITLE_IN, _LINES_IN, _BARS_IN = 0.32, 0.14, 0.8
"""Heights of the parts of a film strip, inches: title, lines from pictures to frames, bars."""
_COLOURS = 10
"""Largest number of heads with a colour each."""
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


def draw_over_time(profiles: np.ndarray, path: Path) -> None:
    """Draw the action token's attention over the clip: a panel per layer, a line per head.

    Args:
        profiles: [layers heads bins] mean attention of the clips in equal parts, relative to equal attention.
        path: path of the PNG.
    """
    bins = profiles.shape[-1]
    _draw_layers((np.arange(bins) + 0.5) / bins, profiles, "Position in the clip", (0, 1), path)


def draw_distances(distances: Distances, path: Path) -> None:
    """Draw block P's attention by signed distance in time: a panel per layer, a line per head."""
    seen = distances.equal > 0
    at = distances.distance[seen]
    label = "Distance in time [frames of a window]; negative: the attended frame is earlier"
    _draw_layers(at, distances.relative[..., seen], label, (at[0], at[-1]), path)


def _draw_layers(at: np.ndarray, values: np.ndarray, label: str, ends: tuple[float, float], path: Path) -> None:
    layers, heads = values.shape[:2]
    columns = min(layers, _COLUMNS)
    rows = -(-layers // columns)
    figure = Figure(figsize=(2.0 + 3.6 * columns, 0.6 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    colours = [f"C{head}" if heads <= _COLOURS else GREY for head in range(heads)]
    for place, axes in enumerate(panels.flat):
        if place >= layers:
            axes.set_axis_off()
            continue
        axes.axhline(1, color=GREY, linewidth=1, linestyle="--")
        for head, colour in enumerate(colours):
            axes.plot(at, values[place, head], color=colour, linewidth=1.1, alpha=0.8, label=f"head {head + 1}")
        axes.plot(at, values[place].mean(axis=0), color="black", linewidth=2.2, label="mean of the heads")
        axes.set_title(f"Layer {place + 1}", fontsize=10)
        _plain(axes)
    panels[0, 0].set(xlim=ends, ylim=(0, 1.05 * np.nanmax(values)))
    figure.supxlabel(label, fontsize=10)
    figure.supylabel(_RELATIVE, fontsize=10)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    shown = slice(None) if heads <= _COLOURS else slice(heads, None)
    figure.legend(handles[shown], labels[shown], loc="outside right center", frameon=False, fontsize=9)
    _save(figure, path)


def draw_actions(values: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draw the action token's attention for each action (row) over the clip, those that attend early first.

    Args:
        values: [a bins] mean attention of the action's clips, relative to equal attention.
        names: name of each row.
        path: path of the PNG.
    """
    order = np.argsort(values @ np.arange(values.shape[1]), kind="stable")
    height = max(0.2 * len(names), 2.0)
    figure = Figure(figsize=(7.2, 1.0 + height), layout="constrained")
    axes = figure.add_subplot()
    norm = PowerNorm(0.5, vmin=0, vmax=max(2.0, float(values.max())))
    image = axes.imshow(values[order], cmap="Blues", norm=norm, aspect="auto", extent=(0, 1, len(names), 0))
    axes.set_yticks(np.arange(len(names)) + 0.5, [_literal(names[row]) for row in order], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Position in the clip")
    figure.colorbar(image, ax=axes, shrink=min(1.0, 3.2 / height), label=_RELATIVE)
    _save(figure, path)


def draw_removal(removal: Removal, path: Path) -> None:
    """Draw accuracy and probability after removals, and their differences with 95 % intervals, by number of frames."""
    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, gridspec_kw={"height_ratios": (1.25, 1)})
    at = np.arange(len(removal.counts))
    for column, measure in enumerate(MEASURES):
        above, below = panels[:, column]
        whole = 100 * removal.values(measure, removal.whole).mean()
        above.axhline(whole, color="black", linewidth=1.2, linestyle="--", label="all frames")
        below.axhline(0, color="black", linewidth=1)
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
        below.set_xticks(at, [str(count) for count in removal.counts])
        below.set_xlabel("Frames removed from each window")
        for axes in (above, below):
            _plain(axes)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    _save(figure, path)


def draw_strips(strips: Sequence[Strip], path: Path) -> None:
    """Draw film strips, each with the attention of the action token under its frames."""
    width, left, inner = 10.0, 0.62, 9.28
    _, high, wide, _ = strips[0].images.shape
    image = inner / PICTURES * high / wide
    each = _TITLE_IN + image + _LINES_IN + _BARS_IN + 0.3
    height = each * len(strips) + 0.25
    figure = Figure(figsize=(width, height))
    for place, strip in enumerate(strips):
        top = height - each * place - _TITLE_IN
        pictures, bars = (
            figure.add_axes((left / width, (top - down) / height, inner / width, size / height))
            for down, size in ((image, image), (image + _LINES_IN + _BARS_IN, _BARS_IN))
        )
        _draw_pictures(pictures, strip)
        _draw_bars(bars, strip)
        if place == len(strips) - 1:
            bars.set_xlabel("Frame", labelpad=1, fontsize=9)
    _save(figure, path)


def _draw_pictures(axes: Axes, strip: Strip) -> None:
    """Draw the pictures of a strip side by side, each with a line to its frame below."""
    width, count = 1 / len(strip.frames), len(strip.attention)
    for place, (frame, image) in enumerate(zip(strip.frames, strip.images, strict=True)):
        start = place * width
        colour, line = (MARKED, 2.2) if strip.marked[frame] else (GREY, 0.8)
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
    axes.axhline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set(xlim=(0, count), ylim=(0, 1.08 * max(2.0, strip.attention.max())))
    axes.set_ylabel("Attention", fontsize=8)
    frames = [int(each) for each in MaxNLocator(12, integer=True).tick_values(0, count - 1) if 0 <= each < count]
    axes.set_xticks(np.array(frames) + 0.5, [str(frame) for frame in frames])
    axes.tick_params(labelsize=8)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    _plain(axes)


def _plain(axes: Axes) -> None:
    """Remove the frame of the axes and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GREY, alpha=0.3, linewidth=0.7)
    axes.set_axisbelow(True)


def _literal(text: str) -> str:
    """Return text without the start of a formula."""
    return text.replace("$", r"\$")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="png", dpi=_DPI)
