"""Draw a contact sheet of rendered clips, one row per clip, with the joints overlaid.

python -m htt.scene --sheet out.png
python -m htt.scene --sheet out.png --actions 0 16 22 --columns 8 --width 256 --plain
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from htt import console
from htt.camera import project
from htt.errors import UserError, storage_errors
from htt.hand import BONES, FINGER_OF_BONE, HANDS, JOINTS_PER_HAND
from htt.scene import ACTIONS, ClipPlan, RenderedClip, plan, render
from htt.text import plural

if TYPE_CHECKING:  # imported late, so that --help answers at once
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FINGER_COLOURS = ("#ff4d4d", "#ffb000", "#3ddc5a", "#2fb6ff", "#c86bff")
SHOWN = (
    "grab milk",
    "place chips",
    "open lotion",
    "close chips",
    "pour milk",
    "take out cocoa",
    "put in espresso",
    "apply lotion",
    "apply spray",
    "read book",
    "spray spray",
    "squeeze lotion",
    "grab book",
)
"""Actions shown by default: every verb once, and "grab book" for the grip of a book."""
_FRAMES = 48


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the options, render the clips and write the contact sheet."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        plans = _choose(options.actions, options.seed)
        figure = draw_sheet(plans, options.columns, options.width, options.width * 9 // 16, not options.plain)
        with storage_errors(options.sheet):
            figure.savefig(options.sheet, dpi=100)
    except UserError as error:
        parser.exit(error.exit_code, f"{error}\n")
    print(f"{options.sheet}: {plural(len(plans), 'clip')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m htt.scene", description="Draw a contact sheet of rendered clips.")
    parser.add_argument("--sheet", type=Path, required=True, help="path of the image to write")
    parser.add_argument(
        "--actions",
        type=int,
        nargs="*",
        choices=range(len(ACTIONS)),
        metavar="INDEX",
        help=f"indices of the actions, 0 to {len(ACTIONS) - 1} (default: every verb)",
    )
    parser.add_argument(
        "--columns",
        type=int,
        choices=range(1, 25),
        metavar="NUMBER",
        default=6,
        help="frames of each clip (default: 6)",
    )
    parser.add_argument("--width", type=int, default=360, help="width of a frame, px (default: 360)")
    parser.add_argument("--seed", type=int, default=0, help="random seed of the plan (default: 0)")
    parser.add_argument("--plain", action="store_true", help="leave out the joints")
    return parser


def _choose(actions: Sequence[int] | None, seed: int) -> list[ClipPlan]:
    """Return one clip plan per action; the splits alternate."""
    if not actions:
        actions = [ACTIONS.index(name) for name in SHOWN]
    pool = plan({split: len(ACTIONS) for split in ("train", "val", "test")}, _FRAMES, seed)
    splits = ("train", "train", "val", "test")
    chosen = []
    for row, action in enumerate(actions):
        split = splits[row % len(splits)]
        chosen.append(next(each for each in pool if each.split == split and each.action == action))
    return chosen


def _rendered(plans: Sequence[ClipPlan], width: int, height: int) -> Iterator[tuple[ClipPlan, RenderedClip]]:
    """Yield each plan with its rendered clip, and show progress, because a sheet of all verbs takes a minute."""
    with console.Counting("Rendering", len(plans), "clips") as counting:
        for each in plans:
            yield each, render(each, width, height)
            counting.advance(1)


def draw_sheet(plans: Sequence[ClipPlan], columns: int, width: int, height: int, joints: bool) -> Figure:
    """Return a matplotlib figure with a row of ``columns`` frames for each plan."""
    from matplotlib.figure import Figure

    inches = (columns * width / 100, len(plans) * (height + 18) / 100)
    figure = Figure(figsize=inches)
    axes = figure.subplots(len(plans), columns, squeeze=False)
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1 - 18 / (inches[1] * 100), wspace=0.01, hspace=18 / height)
    for row, (each, clip) in enumerate(_rendered(plans, width, height)):
        for column, frame in enumerate(np.linspace(0, each.frames - 1, columns).astype(int)):
            axis = axes[row, column]
            axis.imshow(clip.frames[frame], interpolation="nearest", extent=(0, width, height, 0))
            if joints:
                _overlay(axis, clip, int(frame))
            axis.set(xlim=(0, width), ylim=(height, 0))
            axis.set_axis_off()
        title = f"{ACTIONS[each.action]}  ({each.split}, subject {each.subject}, {each.frames} frames)"
        axes[row, 0].set_title(title, loc="left", fontsize=8, pad=3)
    return figure


def _overlay(axis: Axes, clip: RenderedClip, frame: int) -> None:
    """Draw bones coloured by finger and a dot on every joint; hands out of view are left out."""
    thin = clip.frames.shape[2] / 480
    for hand in range(len(HANDS)):
        if not clip.hand_valid[frame, hand]:
            continue
        points = clip.joints_m[frame, hand * JOINTS_PER_HAND : (hand + 1) * JOINTS_PER_HAND]
        pixels = project(points, clip.intrinsics)
        for bone, (start, end) in enumerate(BONES):
            axis.plot(*pixels[[start, end]].T, color=FINGER_COLOURS[FINGER_OF_BONE[bone]], linewidth=thin)
        axis.plot(*pixels.T, ".", color="white", markersize=1.4 * thin)


if __name__ == "__main__":
    main()
