"""Time to the first step of a training from an object store, and cost of streaming from a warm cache.

Rendered clips in shards, in a folder and on an S3 server of this machine (moto's), the default windows and batches, one
thread::

    python benchmarks/streaming.py                 prints, and writes benchmarks/results/streaming.md
    python benchmarks/streaming.py --no-result     prints

In each round the loader goes through the same epoch from the folder and from the (warm) cache in turn; the ratio within
a round counts, in frames a second of processor time. The time to the first batch is wall clock, from ``prepare`` on,
with an empty cache; next to it, how much of the data was there by then, and how long a copy of all of it takes before
anything can begin.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # one thread, before NumPy is loaded
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import torch

from htt.config import Config, override
from htt.data.loading.clips import open_split
from htt.data.loading.loader import TrainingLoader
from htt.data.prepare import prepare
from htt.data.publish import publish
from htt.data.shards import manifest
from htt.data.store import cache
from htt.data.store.mirror import open_mirror
from htt.data.store.remote import Remote
from loading import CLIP_FRAMES, make_clips
from object_stores import CREDENTIALS, Store
from result import header, write

WIDTH, HEIGHT = 480, 270
CLIPS = 48
SHARD_BYTES = 8 * 2**20
"""Smaller than the usual 128 MB, as this data set is: 48 clips are about a dozen shards."""
WINDOWS = 8
"""Windows of a timed epoch."""
LIMIT = 0.95
"""Share of the speed from a folder that the warm cache must reach."""


def loader(config: Config) -> TrainingLoader:
    return TrainingLoader(open_split(prepare(config), "train"), config)


def first_batch(config: Config) -> tuple[float, float, float]:
    """Return (s to the first batch, share of the data present by then, s until all were)."""
    started = time.monotonic()
    batches = loader(config).epoch(0)
    next(batches)
    first_s = time.monotonic() - started
    folder = prepare(config)
    there = sum(path.stat().st_size for path in (folder.parents[1] / cache.FOLDER).glob("*.arrow"))
    share = there / sum(shard.bytes for shard in manifest.read(folder).shards("train"))
    open_mirror(folder).prefetcher.wait()
    return first_s, share, time.monotonic() - started


def speed(loaded: TrainingLoader, epoch: int) -> float:
    """Return the frames per second of processor time."""
    started = time.process_time()
    frames = sum(len(batch.frames) for batch in loaded.epoch(epoch))
    return frames / (time.process_time() - started)


def rates(local: TrainingLoader, warm: TrainingLoader, rounds: int) -> list[tuple[float, float]]:
    """Return the frames per second from a folder and from the warm cache, round by round, in alternating order."""
    found = []
    for number in range(rounds + 1):
        order = (local, warm) if number % 2 else (warm, local)
        speeds = {id(each): speed(each, number) for each in order}
        if number:  # the first one warms up
            found.append((speeds[id(local)], speeds[id(warm)]))
    return found


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--no-result", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_clips(folder / "shards", WIDTH, HEIGHT, CLIPS, SHARD_BYTES)
        server = Store(folder).start()
        try:
            publish(folder / "shards", Remote(server.uri("data")))
            write("streaming", measured(folder, server, options.rounds), keep=not options.no_result)
        finally:
            server.kill()


def measured(folder: Path, server: Store, rounds: int) -> list[str]:
    """Return the result as Markdown."""
    base = override(Config(), {"train.windows_per_epoch": WINDOWS, "runtime.cache": str(folder / "cache")})
    local = override(base, {"data.root": str(folder / "shards")})
    remote = override(base, {"data.root": server.uri("data")})
    prepare(local)  # its checksums are compared once, as those of the cache are
    started = time.monotonic()
    next(loader(local).epoch(0))
    local_s = time.monotonic() - started
    first_s, share, all_s = first_batch(remote)
    started = time.monotonic()
    next(loader(remote).epoch(0))
    warm_s = time.monotonic() - started
    pairs = rates(loader(local), loader(remote), rounds)
    ratios = [warm / plain for plain, warm in pairs]
    ratio = statistics.median(ratios)
    shards = manifest.read(folder / "shards").shards("train")
    size_mb = sum(shard.bytes for shard in shards) / 1e6
    return [
        *header("Streaming", "python benchmarks/streaming.py", ("pyarrow", "moto", "simplejpeg", "torch", "numpy")),
        "How soon does a training from an object store take its first step, and what does streaming cost once it is "
        f"warm? Limit: {LIMIT:.0%} of the frames a second from a folder. "
        f"**{'Reached' if ratio >= LIMIT else 'Missed'}.**",
        "",
        "| data | first batch, s | there by then | all there, s | frames/s |",
        "|---|---|---|---|---|",
        f"| folder | {local_s:.2f} | 100 % | 0 | {statistics.median(plain for plain, _ in pairs):,.0f} |",
        f"| S3, empty cache | {first_s:.2f} | {share:.0%} | {all_s:.1f} | |",
        f"| S3, warm cache | {warm_s:.2f} | 100 % | 0 | {statistics.median(warm for _, warm in pairs):,.0f} |",
        "",
        f"Warm cache / folder: **{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f}), median of {rounds} rounds. "
        f"{CLIPS} clips of {CLIP_FRAMES} frames of {WIDTH}x{HEIGHT}, {len(shards)} shards, {size_mb:,.0f} MB; "
        f"{WINDOWS} windows an epoch; one core's thread. Frames a second are of processor time, the rest is wall "
        "clock. The S3 server is moto's, a process on the same cores: it gives far fewer MB/s than a real one, so the "
        "times with an empty cache compare only with one another.",
    ]


if __name__ == "__main__":
    main()
