"""Frames per second that one core renders.

python benchmarks/scene_rendering.py            (prints, and writes benchmarks/results/scene_rendering.md)
python benchmarks/scene_rendering.py --repeats 3 --clips 6 --no-result

One process, one thread. Every repeat renders the same clips of all verbs, motion and labels included; hands are built
before the clock starts, which is told apart. Frames per second of processor time stand beside those of the clock on the
wall: on a machine that others use as well, the first is what a free core would give.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # one thread, before NumPy is loaded
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import statistics
import sys
import time

from htt.scene import ClipPlan, plan, render
from htt.scene.hand.mesh import hand_mesh
from htt.scene.version import VERSION
from result import header, write

SIZES = ((96, 54), (128, 72), (192, 108), (256, 144))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=36, help="one of each action by default")
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args()
    plans = plan({"train": options.clips}, 48, 0)
    rows = [measure(plans, width, height, options.repeats) for width, height in SIZES]
    write("scene_rendering", report(rows, plans, options.repeats), keep=not options.no_result)


def measure(plans: list[ClipPlan], width: int, height: int, repeats: int) -> str:
    """Return a row of the table: frames per second of processor and of wall time, median and range of the repeats."""
    hand_mesh.cache_clear()
    began = time.process_time()
    people = {each.subject: each for each in plans}
    for each in people.values():
        render(ClipPlan(each.split, 0, each.subject, 0, 0, 1), width, height)
    building = (time.process_time() - began) / len(people)
    frames = sum(each.frames for each in plans)
    by_processor, by_wall = [], []
    for _ in range(repeats):
        processor, wall = time.process_time(), time.perf_counter()
        for each in plans:
            render(each, width, height)
        by_processor.append(frames / (time.process_time() - processor))
        by_wall.append(frames / (time.perf_counter() - wall))
    return f"| {width} x {height} | {spread(by_processor)} | {spread(by_wall)} | {building:.2f} |"


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def report(rows: list[str], plans: list[ClipPlan], repeats: int) -> list[str]:
    frames = sum(each.frames for each in plans)
    command = " ".join(["python", "benchmarks/scene_rendering.py", *sys.argv[1:]])
    return [
        *header("Rendering the scene", command, ("numpy",)),
        "Frames per second of one process with one thread, motion and labels included: median (range). "
        f"{len(plans)} clips, {frames} frames, {repeats} repeats; scene version {VERSION}.",
        "",
        "| size | by processor time | by the wall | s to build a subject's hands |",
        "|---|---|---|---|",
        *rows,
    ]


if __name__ == "__main__":
    main()
