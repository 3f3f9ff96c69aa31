"""Speed of encoding against the bare encoder, and share of loading in a training on features.

::

    python benchmarks/encoding.py                      # writes benchmarks/results/encoding.md

Encoding: all frames of the default benchmark, by ``htt.training.encoding.encoded`` with one worker (reading shards,
decoding JPEGs, the encoder, writing shards, checksums, Ray's start) and by the encoder alone on decoded frames.
Loading: processor time inside the loaders of training and validation, as a share of that of a whole trial.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # benchmarks/ holds no top-level modules: the project's root does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.result import header, write
from htt.config import Config, override
from htt.data.loading.clips import open_split
from htt.data.loading.loader import Assembler, Decoder
from htt.data.loading.splits import open_splits
from htt.data.loading.windows import cut
from htt.data.prepare import prepare
from htt.data.shards import manifest
from htt.model.features import FrameFeatures
from htt.training.encoding import BATCH, EncodedFrames, encoded, encoding
from htt.training.loop import fit
from tune.experiments.spaces.quick import SPACE


def main() -> None:
    """Measure in rounds and write the result."""
    parser = argparse.ArgumentParser(description="Measure encoding, and loading in a training on features.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--no-result", action="store_true", help="write no result")
    options = parser.parse_args()
    rounds = options.rounds
    torch.set_num_threads(1)
    config = override(override(Config(), SPACE.base), {"runtime.tensorboard": False})
    frames = prepare(config)
    whole, inside = [], []
    for _ in range(rounds):
        bare = _bare(frames, config)
        with tempfile.TemporaryDirectory() as out:
            taken, steady = _encoded(config, Path(out) / "features")
        whole.append(bare / taken)
        inside.append(bare / steady)
    shares = [_loading_share(config) for _ in range(rounds)]
    lines = [
        f"| | asked for | measured, median of {rounds} rounds (smallest to largest) |",
        "|---|---|---|",
        f"| frames/s of encoding clips, of the bare encoder | 80 % or more | {_percent(inside)} |",
        f"| frames/s of the whole command with Ray's start, of the bare encoder | | {_percent(whole)} |",
        f"| processor time of a trial on features that goes into loading | 5 % or less | {_percent(shares)} |",
    ]
    head = header("Encoding and loading features", "python benchmarks/encoding.py")
    write("encoding", [*head, *lines], keep=not options.no_result)


def _bare(frames: Path, config: Config) -> float:
    """Return the seconds that the encoder takes for all frames, decoded before."""
    encoder = FrameFeatures(config.model.backbone, 1).eval()
    taken = 0.0
    for batch in _clips(frames):
        began = time.perf_counter()
        with torch.inference_mode():
            for images in torch.split(batch.frames, BATCH):
                encoder.encode(images)
        taken += time.perf_counter() - began
    return taken


def _clips(frames: Path) -> Iterator[Any]:
    for split in manifest.read(frames).splits:
        clips = open_split(frames, split)
        whole = cut(clips.frame_counts, length=int(clips.frame_counts.max()), spacing=1, starts=1)
        assembler = Assembler(clips, whole)
        yield from (assembler([index]) for index in range(len(clips)))


def _encoded(config: Config, out: Path) -> tuple[float, float]:
    """Return the seconds of the whole encoding with one worker, and those of encoding the clips in this process."""
    began = time.perf_counter()
    encoded(config, 1, out)
    whole = time.perf_counter() - began
    source = EncodedFrames(prepare(config), config, encoding(config))
    began = time.perf_counter()
    for split in source.splits:
        for key in source.clips(split):
            source.read(key, 0, 0, 0)
    return whole, time.perf_counter() - began


def _loading_share(config: Config) -> float:
    """Return the share of a trial's processor time that is spent inside loaders."""
    spent = [0.0]
    batches: Callable[..., Iterator[Any]] = Decoder.batches

    def timed(self: Decoder, steps: Any) -> Iterator[Any]:
        began = time.process_time()
        iterator = batches(self, steps)
        spent[0] += time.process_time() - began
        while True:
            began = time.process_time()
            batch = next(iterator, None)
            spent[0] += time.process_time() - began
            if batch is None:
                return
            yield batch

    splits = open_splits(encoded(config), config.data)
    began = time.process_time()
    Decoder.batches = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            fit(config, splits, lambda *_: None, folder=Path(folder))
    finally:
        Decoder.batches = batches  # type: ignore[method-assign]
    return spent[0] / (time.process_time() - began)


def _percent(values: list[float]) -> str:
    low, middle, high = (100 * each for each in (min(values), statistics.median(values), max(values)))
    return f"{middle:.1f} % ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
