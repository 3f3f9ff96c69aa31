"""Speed of loading against the JPEG decoder alone, and the cost of augmentation.

Rendered clips, the default windows and batches, one core, one thread::

    python benchmarks/loading.py                 prints, and writes benchmarks/results/loading.md
    python benchmarks/loading.py --no-result     prints

In each round the decoder (simplejpeg, into one array, nothing else) and the loader decode the same frames in turn; the
ratio within a round counts. Augmentation then takes the loader's batches. Frames a second are of processor time: on a
machine that others use as well, that is what a free core would give.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # one thread, before NumPy is loaded
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simplejpeg
import torch

from htt import scene
from htt.config import Config, override
from htt.data.loading.clips import Clips, open_split
from htt.data.loading.loader import TrainingLoader
from htt.data.shards import arrow, labels, manifest
from htt.data.sources import ClipKey, _images
from htt.data.sources.synthetic import SyntheticSource
from htt.training.augment import augment
from result import header, write

SIZES = ((96, 54), (480, 270))
LIMIT = 0.8
"""Share of the decoder's speed that loading must reach."""
CLIP_FRAMES = 96
"""Frames of every clip, as in H2O, whose clips have 98 on average."""


def make_clips(root: Path, width: int, height: int, count: int, shard_bytes: int = arrow.SHARD_BYTES) -> Clips:
    """Write shards of ``count`` clips; a few are rendered, and their frames repeated."""
    source = SyntheticSource(Config().data.synthetic)
    writer = arrow.ShardWriter(root, "train", limit_bytes=shard_bytes)
    done = []
    rendered = []
    for plan in scene.plan({"train": min(count, 6)}, 24, 0):
        record, _ = source.read(ClipKey(plan.clip_id, plan.frames, plan), width, height, _images.JPEG_QUALITY)
        assert record
        rendered.append(record)
    for index in range(count):
        record = rendered[index % len(rendered)]
        order = np.resize(np.arange(len(record.jpegs)), CLIP_FRAMES)
        longer = dataclasses.replace(
            record,
            id=f"clip-{index}",
            frame_numbers=list(range(CLIP_FRAMES)),
            jpegs=[record.jpegs[frame] for frame in order],
            joints_m=record.joints_m[order],
            hand_valid=record.hand_valid[order],
            hand_types=None if record.hand_types is None else record.hand_types[order],
        )
        done.append(writer.add(longer))
    done.append(writer.close())
    written = [shard for shard in done if shard]
    info = source.info(width, height)
    facts = {"source": "synthetic", "hands": 2, "quality": _images.JPEG_QUALITY, "pixels": source.pixels}
    made = manifest.Manifest(
        actions=list(info.actions),
        objects=list(info.objects),
        hand_types=list(info.hand_types),
        width=width,
        height=height,
        splits={"train": written},
        wanted={"train": []},
        labels=labels.write(root, {"train": written}),
        **facts,
    )
    manifest.write(root, made)
    return open_split(root, "train")


def timed(work: Callable[[], int]) -> float:
    """Return the frames per second of processor time; ``work`` returns its number of frames."""
    started = time.process_time()
    frames = work()
    return frames / (time.process_time() - started)


def measure(clips: Clips, config: Config, rounds: int) -> dict[str, list[float]]:
    """Return the frames per second of each way, round by round."""
    loader = TrainingLoader(clips, config)
    image = np.empty((clips.info.height, clips.info.width, 3), np.uint8)
    random = torch.Generator().manual_seed(0)
    found: dict[str, list[float]] = {"decoder": [], "loader": [], "augmentation": []}
    records = [clips[clip] for clip in range(len(clips))]

    def decoder(jpegs: list[bytes]) -> int:
        for jpeg in jpegs:
            simplejpeg.decode_jpeg(jpeg, "RGB", buffer=image)
        return len(jpegs)

    for round_number in range(rounds + 1):
        batches = list(loader.epoch(round_number))
        jpegs = [
            records[batch.clip[window]].jpegs[frame]
            for batch in batches
            for window, frame in zip(batch.valid.nonzero()[:, 0].tolist(), batch.frame.tolist(), strict=True)
        ]
        few = batches[:4]
        del batches
        speeds = {
            "decoder": timed(lambda: decoder(jpegs)),  # noqa: B023 - called at once
            "loader": timed(lambda: sum(len(batch.frames) for batch in loader.epoch(round_number))),  # noqa: B023
            "augmentation": timed(
                lambda: sum(len(augment(batch, config.data.augment, random).frames) for batch in few)  # noqa: B023
            ),
        }
        if round_number:  # the first one warms up
            for name, speed in speeds.items():
                found[name].append(speed)
    return found


def row(width: int, height: int, found: dict[str, list[float]]) -> tuple[str, float]:
    """Return a line of the table, and the median ratio."""
    ratios = [one / other for one, other in zip(found["loader"], found["decoder"], strict=True)]
    ratio = statistics.median(ratios)
    cells = [f"{width}x{height}", *(f"{statistics.median(speeds):,.0f}" for speeds in found.values())]
    return "| " + " | ".join([*cells, f"**{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"]) + " |", ratio


def main() -> None:
    """Measure at both sizes, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-result", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    rows, ratios = [], []
    for width, height in SIZES:
        small = width < 200
        config = override(Config(), {"train.windows_per_epoch": 160 if small else 8})
        with tempfile.TemporaryDirectory() as folder:
            clips = make_clips(Path(folder), width, height, 60 if small else 12)
            line, ratio = row(width, height, measure(clips, config, options.rounds))
        rows.append(line)
        ratios.append(ratio)
        print(line, flush=True)
    write("loading", report(rows, ratios, options.rounds), keep=not options.no_result)


def report(rows: list[str], ratios: list[float], rounds: int) -> list[str]:
    """Return the result as Markdown."""
    verdict = "reached" if min(ratios) >= LIMIT else "missed"
    return [
        *header("Loading", "python benchmarks/loading.py", ("simplejpeg", "pyarrow", "torch", "numpy")),
        "How near does loading come to the JPEG decoder alone, and what does augmentation cost? "
        f"Limit: {LIMIT:.0%} of the decoder's frames a second. **{verdict.capitalize()}.**",
        "",
        "| image | decoder, frames/s | loader, frames/s | augmentation, frames/s | loader / decoder |",
        "|---|---|---|---|---|",
        *rows,
        "",
        f"Medians of {rounds} rounds (smallest to largest), frames a second of processor time, one core. "
        "Default windows and batches (every second frame, up to 128, 2 windows); clips of "
        f"{CLIP_FRAMES} rendered frames, JPEG quality {_images.JPEG_QUALITY}.",
    ]


if __name__ == "__main__":
    main()
