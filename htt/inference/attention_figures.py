"""Figures of a model's attention: over time, by distance, after the removal of frames, and under the frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from htt.inference.attention import ATTENDED, MEASURES, RANDOM, SHIFTED, Distances, Removal

STYLES = {
    ATTENDED: ("most attended frames", "#d9730d", "o"),
    RANDOM: ("random frames", "#2a7fd0", "s"),
    SHIFTED: ("attended frames, shifted in time", "#2e9e5b", "^"),
}
"""{frames that are removed: name, colour and marker}"""
GREY = "#8a9099"
PICTURES = 10
"""Number of frames in a film strip."""
_COLUMNS = 3
_DPI = 150
_RELATIVE = "Attention\n(1: all frames alike)"


@dataclass(frozen=True)
class Strip:
    """Film strip of one clip."""

    title: str
    frames: np.ndarray
    """[p] index of the frame of each picture in the clip."""
    images: np.ndarray
    """[p h w 3] pictures, uint8."""
    heads: np.ndarray
    """[heads t] attention to each frame of the clip, relative to equal attention."""
    marked: np.ndarray
    """[t] True for the most attended frames."""


def draw_over_time(profiles: np.ndarray, path: Path) -> None:
    """Draw the action token's attention over the clip: a panel per layer, a line per head.

    Args:
        profiles: [layers heads bins] mean attention of the clips in equal parts, relative to equal attention.
        path: path of the PNG.
    """
    bins = profiles.shape[-1]
    _draw_layers((np.arange(bins) + 0.5) / bins, profiles, "Position in the clip", path)


def draw_distances(distances: Distances, unit: str, path: Path) -> None:
    """Draw block P's attention by signed distance in time: a panel per layer, a line per head.

    Args:
        distances: attention of block P.
        unit: unit of a distance, such as "frames".
        path: path of the PNG.
    """
    seen = distances.equal > 0
    label = f"Time of the attended frame, later by [{unit}]"
    _draw_layers(distances.distance[seen], distances.relative[..., seen], label, path)


def _draw_layers(at: np.ndarray, values: np.ndarray, label: str, path: Path) -> None:
    layers, heads = values.shape[:2]
    columns = min(layers, _COLUMNS)
    rows = -(-layers // columns)
    figure = Figure(figsize=(max(5.6, 3.6 * columns), 0.5 + 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(panels.flat):
        if place >= layers:
            axes.set_axis_off()
            continue
        axes.axhline(1, color=GREY, linewidth=1, linestyle="--")
        for head in range(heads):
            colour = f"C{head}" if heads <= 10 else GREY
            axes.plot(at, values[place, head], color=colour, linewidth=1.1, alpha=0.8, label=f"head {head + 1}")
        axes.plot(at, values[place].mean(axis=0), color="black", linewidth=2.2, label="mean of the heads")
        axes.set(title=f"Layer {place + 1}" if layers > 1 else "", ylim=(0, None))
        axes.margins(x=0)
        _plain(axes)
        if place % columns == 0:
            axes.set_ylabel(_RELATIVE)
        if place + columns >= layers:
            axes.set_xlabel(label)
            axes.tick_params(labelbottom=True)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    shown = slice(None) if heads <= 10 else slice(heads, None)
    figure.legend(handles[shown], labels[shown], loc="outside right center", frameon=False, fontsize=9)
    _save(figure, path)


def draw_actions(values: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draw the action token's attention for each action (row) over the clip, those that attend early first.

    Args:
        values: [a bins] mean attention of the action's clips, relative to equal attention.
        names: name of each row.
        path: path of the PNG.
    """
    bins = values.shape[1]
    order = np.argsort(values @ np.arange(bins), kind="stable")
    figure = Figure(figsize=(7.2, 1.3 + 0.2 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    norm = TwoSlopeNorm(1, vmin=0, vmax=max(2.0, float(values.max())))
    image = axes.imshow(values[order], cmap="RdBu_r", norm=norm, aspect="auto", extent=(0, 1, len(names), 0))
    axes.set_yticks(np.arange(len(names)) + 0.5, [_literal(names[row]) for row in order], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("Position in the clip")
    bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3.2 / (0.2 * len(names))), label="Attention (1: all frames alike)")
    bar.ax.set_yscale("linear")
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
        for which, (name, colour, marker) in STYLES.items():
            line = 100 * removal.after(measure, which).mean(axis=1)
            above.plot(at, line, color=colour, marker=marker, markersize=5, label=f"without {name}")
            if which == ATTENDED:
                continue
            falls = [fall for fall in removal.falls if (fall.measure, fall.control) == (measure, which) and fall.frames]
            shift = -0.08 if which == RANDOM else 0.08
            for place, fall in zip(at, falls, strict=True):
                if fall.interval:
                    below.plot([place + shift] * 2, 100 * np.array(fall.interval), color=colour, linewidth=2)
                below.plot(place + shift, 100 * fall.difference, color=colour, marker=marker, markersize=5)
        above.set_ylabel("Action accuracy [%]" if measure == "accuracy" else "Probability of the true action [%]")
        below.set_ylabel("Falls more than the control by\n[points]")
        below.set_xticks(at, [str(count) for count in removal.counts])
        below.set_xlabel("Frames removed from each window")
        for axes in (above, below):
            _plain(axes)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False, fontsize=9)
    _save(figure, path)


def draw_strips(strips: Sequence[Strip], path: Path) -> None:
    """Draw film strips, each with the attention of the action token under its frames."""
    left, right, width = 0.75, 0.1, 10.0
    inner = width - left - right
    of_image = strips[0].images.shape
    image = inner / len(strips[0].frames) * of_image[1] / of_image[2]
    block = 0.34 + image + 0.06 + 0.85 + 0.36
    height = block * len(strips) + 0.2
    figure = Figure(figsize=(width, height))
    top = 1 + max(float(each.heads.max()) for each in strips)
    for place, strip in enumerate(strips):
        upper = height - block * place - 0.34
        pictures = figure.add_axes((left / width, (upper - image) / height, inner / width, image / height))
        curve = figure.add_axes((left / width, (upper - image - 0.91) / height, inner / width, 0.85 / height))
        _draw_pictures(pictures, strip)
        count = strip.heads.shape[-1]
        mean, at = strip.heads.mean(axis=0), np.arange(count) + 0.5
        colours = [STYLES[ATTENDED][1] if marked else STYLES[RANDOM][1] for marked in strip.marked]
        curve.bar(at, mean, width=0.9, color=colours)
        for head in strip.heads:
            curve.plot(at, head, color="black", linewidth=0.5, alpha=0.45)
        curve.axhline(1, color="black", linewidth=0.8, linestyle="--")
        curve.set(xlim=(0, count), ylim=(0, top), ylabel=_RELATIVE)
        curve.yaxis.label.set_size(7)
        steps = [each for each in MaxNLocator(10, integer=True).tick_values(0, count - 1) if 0 <= each < count]
        curve.set_xticks(np.array(steps) + 0.5, [f"{int(each)}" for each in steps])
        _plain(curve)
        if place == len(strips) - 1:
            curve.set_xlabel("Frame", labelpad=1)
    _save(figure, path)


def _draw_pictures(axes: Axes, strip: Strip) -> None:
    """Draw the pictures of a strip side by side; those of the most attended frames have a coloured frame."""
    count, pictures = strip.heads.shape[-1], len(strip.frames)
    each = count / pictures
    for place, (frame, image) in enumerate(zip(strip.frames, strip.images, strict=True)):
        axes.imshow(image, extent=(place * each, (place + 1) * each, 0, 1), aspect="auto", interpolation="lanczos")
        marked = bool(strip.marked[frame])
        colour, edge = (STYLES[ATTENDED][1], 2.5) if marked else ("white", 1.0)
        axes.add_patch(_edge(place * each, each, colour, edge))
    axes.set(xlim=(0, count), ylim=(0, 1))
    axes.set_axis_off()
    axes.set_title(_literal(strip.title), fontsize=9, loc="left", pad=4)


def _edge(start: float, width: float, colour: str, linewidth: float):  # noqa: ANN202
    from matplotlib.patches import Rectangle

    return Rectangle((start, 0), width, 1, fill=False, edgecolor=colour, linewidth=linewidth, clip_on=False)


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
