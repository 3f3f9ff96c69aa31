"""How many frames a second does one core render?

python benchmarks/scene_rendering.py            (prints, and writes benchmarks/results/scene_rendering.md)
python benchmarks/scene_rendering.py --repeats 3 --clips 6 --no-result

One process, one thread. Every repeat renders the same clips of all verbs, motion and labels included; hands are built
before the clock starts, which is told apart. Frames per second of processor time stand beside those of the clock on the
wall: on a machine that others use as well, the first is what a free core would give.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ == "__main__":  # the project's root, and one thread, before NumPy is loaded
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import platform
import statistics
import time
from datetime import date

import numpy as np

from htt.scene import VERSION, ClipPlan, plan, render
from htt.scene.hand_mesh import hand_mesh

SIZES = ((96, 54), (128, 72), (192, 108), (256, 144))
RESULT = Path(__file__).parent / "results" / "scene_rendering.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=36, help="one of each action by default")
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args()
    plans = plan({"train": options.clips}, 48, 0)
    rows = [measure(plans, width, height, options.repeats) for width, height in SIZES]
    text = report(rows, plans, options.repeats)
    print(text)
    if not options.no_result:
        RESULT.write_text(text, encoding="utf-8")


def measure(plans: list[ClipPlan], width: int, height: int, repeats: int) -> str:
    """A row of the table: frames per second by processor time and by the wall, median and range of the repeats."""
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


def report(rows: list[str], plans: list[ClipPlan], repeats: int) -> str:
    frames = sum(each.frames for each in plans)
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    return "\n".join(
        [
            "# Rendering the scene",
            "",
            "Frames per second of one process with one thread, motion and labels included: median (range).",
            "",
            f"- Date: {date.today().isoformat()}; scene version {VERSION}",
            f"- Machine: {processor_name()}, {os.cpu_count()} cores, load while measuring {load}",
            f"- Python {platform.python_version()}, NumPy {np.__version__}",
            f"- {len(plans)} clips, {frames} frames, {repeats} repeats",
            f"- Command: `{' '.join(['python', 'benchmarks/scene_rendering.py', *sys.argv[1:]])}`",
            "",
            "| size | by processor time | by the wall | s to build a subject's hands |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def processor_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
