"""Speed of converting against the image libraries alone.

Two kinds of images, as H2O and FPHA have them, to frames of 480x270, on all cores::

    python benchmarks/converting.py                          prints, and writes benchmarks/results/converting.md
    python benchmarks/converting.py --clips 4 --rounds 1 --no-result       prints; seconds, not minutes

In each round plain processes, one a core, decode, resize and encode the files with the libraries alone (the calls the
converter makes, and nothing else: no file is looked for, no label read, nothing written), then ``convert`` makes shards
of them, Ray's start and the checksums included; the ratio within a round counts. The images are rendered, and given the
noise of a camera, for without it PNG compresses them as no photograph. They are few, and every clip shows them all: the
files are in the page cache, for both.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from htt import camera, scene
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.sources import _images, open_source
from result import header, write

SIZE = (480, 270)
LIMIT = 0.7
"""Share of the libraries' frames a second that converting must reach."""
FRAMES = 98
"""Frames of every clip: H2O's mean."""
IMAGES = 7
"""Number of different images; a clip repeats them."""
NOISE = 3.0
"""Standard deviation of the noise, of 255."""


class Kind(NamedTuple):
    """Images as one data set has them."""

    name: str
    suffix: str
    width: int
    height: int
    clips: int
    """Number of clips whose conversion takes tens of seconds on two cores."""


KINDS = (Kind("H2O: PNG", "png", 1280, 720, 40), Kind("FPHA: JPEG", "jpg", 1920, 1080, 120))


def write_tree(root: Path, kind: Kind, clips: int) -> list[Path]:
    """Write a folder in H2O's format, with one recording that every clip shows whole; return its images."""
    folder = root / "subject1/h1/0/cam4"
    for name in ("rgb", "hand_pose"):
        (folder / name).mkdir(parents=True)
    (plan,) = scene.plan({"train": 1}, IMAGES, 0)
    clip = scene.render(plan, kind.width, kind.height)
    random = np.random.default_rng(0)
    hand = "1 " + " ".join(["0.100000 0.050000 0.500000"] * 21)
    files = []
    for number in range(FRAMES):
        files.append(folder / f"rgb/{number:06d}.{kind.suffix}")
        first = files[number % len(clip.frames)]
        if first == files[-1]:
            noise = random.normal(0, NOISE, clip.frames[number].shape)
            image = Image.fromarray((clip.frames[number] + noise).round().clip(0, 255).astype(np.uint8))
            image.save(first, None, **({} if kind.suffix == "png" else {"quality": 95}))
        else:
            os.link(first, files[-1])
        (folder / f"hand_pose/{number:06d}.txt").write_text(f"{hand} {hand}\n")
    matrix = camera.resized(clip.intrinsics, 1.0, 1.0)
    numbers = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], kind.width, kind.height)
    (folder / "cam_intrinsics.txt").write_text(" ".join(f"{number:.4f}" for number in numbers))
    lines = ["id path action_label start_act end_act start_frame end_frame"]
    lines += [f"{index} subject1/h1/0 1 0 {FRAMES - 1} 0 {FRAMES - 1}" for index in range(1, clips + 1)]
    (root / "action_labels").mkdir()
    (root / "action_labels/action_train.txt").write_text("\n".join(lines) + "\n")
    return files * clips


def libraries(files: list[Path], ready: Barrier) -> None:
    """Decode, resize and encode files with the calls of ``htt.data.sources._images``."""
    ready.wait()
    for file in files:
        with Image.open(file) as image:
            image.draft("RGB", (2 * SIZE[0], 2 * SIZE[1]))
            seen = np.asarray(image.resize(SIZE, Image.Resampling.BILINEAR))
        simplejpeg.encode_jpeg(seen, _images.JPEG_QUALITY, "RGB", "420")


def alone(files: list[Path], cores: int) -> float:
    """Return the seconds for all files with the libraries alone, from the moment all processes are ready."""
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(cores + 1)
    processes = [context.Process(target=libraries, args=(files[core::cores], ready)) for core in range(cores)]
    for process in processes:
        process.start()
    ready.wait()
    return timed(lambda: [process.join() for process in processes])


def converted(root: Path, cores: int, frames: int) -> float:
    """Return the seconds of a whole conversion."""
    with tempfile.TemporaryDirectory(dir=root.parent) as out:
        source, making = open_source("h2o", root), Making(*SIZE)
        seconds = timed(lambda: convert(source, Path(out), making, workers=cores, title="converting")[0])
        assert convert(source, Path(out), making)[0].count("train")[1] == frames
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(kind: Kind, clips: int, rounds: int, cores: int) -> tuple[str, float]:
    """Return a line of the table, and the median ratio."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "h2o"
        files = write_tree(root, kind, clips)
        megabytes = sum(file.stat().st_size for file in files[:FRAMES]) / FRAMES / 1e6
        for number in range(rounds):
            works = {"alone": lambda: alone(files, cores), "convert": lambda: converted(root, cores, len(files))}
            order = list(works)[:: -1 if number % 2 else 1]
            found.append({name: len(files) / works[name]() for name in order})
            print(f"{kind.name}: " + ", ".join(f"{name} {speed:.0f} frames/s" for name, speed in found[-1].items()))
    ratios = [each["convert"] / each["alone"] for each in found]
    medians = [f"{statistics.median(each[name] for each in found):,.0f}" for name in ("alone", "convert")]
    ratio = statistics.median(ratios)
    image = f"{kind.name} {kind.width}x{kind.height}, {megabytes:.2f} MB"
    cells = [image, f"{len(files):,}", *medians, f"**{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"]
    return "| " + " | ".join(cells) + " |", ratio


def main() -> None:
    """Measure both kinds, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, help="of each kind; none: enough for tens of seconds on two cores")
    parser.add_argument("--no-result", action="store_true")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    measured = [measure(kind, options.clips or kind.clips, options.rounds, cores) for kind in KINDS]
    lines = report([row for row, _ in measured], [ratio for _, ratio in measured], options.rounds, cores)
    write("converting", lines, keep=not options.no_result)


def report(rows: list[str], ratios: list[float], rounds: int, cores: int) -> list[str]:
    """Return the result as Markdown."""
    verdict = "reached" if min(ratios) >= LIMIT else "missed"
    return [
        *header(
            "Converting",
            shlex.join(["python", "benchmarks/converting.py", *sys.argv[1:]]),
            ("pillow", "simplejpeg", "pyarrow", "ray", "numpy"),
        ),
        "How near does converting come to decoding, resizing and encoding with the libraries alone, on all cores? "
        f"Limit: {LIMIT:.0%} of their frames a second. **{verdict.capitalize()}.**",
        "",
        "| image | frames | libraries alone, frames/s | convert, frames/s | convert / alone |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Medians of {rounds} rounds (smallest to largest), wall time, {cores} processes and {cores} workers. "
        "`convert` is the whole call: Ray's start, reading labels, writing shards, checksums. Frames of "
        f"{SIZE[0]}x{SIZE[1]}, JPEG quality {_images.JPEG_QUALITY}. The images: {IMAGES} rendered ones of each kind "
        f"with noise of standard deviation {NOISE:g} (of 255), the JPEGs of quality 95, all in H2O's folders, shown "
        "again and again, in the page cache.",
    ]


if __name__ == "__main__":
    main()
