"""Cost of padding frames: a training step with valid frames alone against one with padding.

The released code pads every window of a clip to 128 frames and runs all of them through the ResNet; on H2O 68.5 % of
them are padding. Here a step (forward, losses, backward) sees the same windows both ways and must give the same loss
(with bf16, to 2 %)::

    python benchmarks/padding.py --steps 5
    python benchmarks/padding.py --steps 5 --precision bf16    # valid frames in bf16, padding in fp32 as released

The windows' lengths are those of H2O's training split, from its label file: all 18,765 in order of length, cut into
``--steps`` equal parts, and one window as long as the mean of each. Both ways run in turn, within one process, so that
the ratio means something on a busy machine.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from htt.batch import Batch
from htt.config import Config, override
from htt.data.loading.windows import training_windows
from htt.info import DataInfo
from htt.losses import losses, total
from htt.model.htt import HTT
from htt.testing import random_batch
from htt.training.loop import Precision
from result import header, write

LABELS = Path(__file__).parents[1] / "tests" / "golden" / "h2o_labels" / "action_train.txt"
SLOTS = Config().model.action.length
"""Frames a padded window has."""
LIMITS = {"fp32": 0.45, "bf16": 0.15}
"""{precision: share of the padded fp32 step's time that the step without padding may take}."""
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2}
"""{precision: largest relative difference of its loss from that of the padded fp32 step}."""


class EverySlot(nn.Module):
    """Image encoder that runs on every slot of a window; features of padding are discarded."""

    def __init__(self, features: nn.Module, valid: Tensor) -> None:
        super().__init__()
        self.features, self.valid = features, valid

    def forward(self, slots: Tensor) -> Tensor:
        """Return the features of the valid slots alone."""
        return self.features(slots)[self.valid.flatten()]


@dataclass(frozen=True)
class Step:
    """One measured step."""

    seconds: float
    processor_seconds: float
    loss: float


def h2o_lengths(config: Config) -> np.ndarray:
    """Return the frames of every training window of H2O, in order of length."""
    rows = [line.split() for line in LABELS.read_text().splitlines()[1:]]
    clips = [int(row[4]) - int(row[3]) + 1 for row in rows]
    return np.sort(training_windows(clips, config).frame_count)


def measured(model: nn.Module, frames: Tensor, batch: Batch, config: Config, precision: Precision) -> Step:
    """Run one step: forward, losses, backward."""
    model.zero_grad()
    wall, processor = time.perf_counter(), time.process_time()
    with precision.autocast():
        prediction = model(frames, batch.valid, batch.intrinsics)
    loss = total(losses(prediction, batch), config.loss)
    loss.backward()
    return Step(time.perf_counter() - wall, time.process_time() - processor, loss.item())


def both_ways(model: HTT, info: DataInfo, frames: int, place: int, config: Config) -> list[Step]:
    """Measure the same window without its padding, in ``train.precision``, and with it in fp32, in turn."""
    batch = random_batch(info, [frames], seed=place, padding=SLOTS - frames)
    repeated = batch.frames[[*range(frames), *[frames - 1] * (SLOTS - frames)]]
    features = model.features
    own = config.train.precision
    ways = [(features, batch.frames, own), (EverySlot(features, batch.valid), repeated, "fp32")]
    steps: dict[int, Step] = {}
    for way in (0, 1) if place % 2 else (1, 0):
        model.features, images, name = ways[way]
        steps[way] = measured(model, images, batch, config, Precision(name, torch.device("cpu")))
    model.features = features
    return [steps[0], steps[1]]


def report(
    lengths: np.ndarray, chosen: list[int], steps: list[list[Step]], info: DataInfo, precision: str
) -> list[str]:
    """Return the result as Markdown."""
    alone, padded = (sum(pair[way].seconds for pair in steps) for way in (0, 1))
    busy_alone, busy_padded = (sum(pair[way].processor_seconds for pair in steps) for way in (0, 1))
    ratios = [pair[0].seconds / pair[1].seconds for pair in steps]
    rows = [
        f"| {frames} | {a.seconds:.1f} | {p.seconds:.1f} | {a.seconds / p.seconds:.3f} | {a.loss:.4f} | {p.loss:.4f} |"
        for frames, (a, p) in zip(chosen, steps, strict=True)
    ]
    slots = SLOTS * len(lengths)
    threads = torch.get_num_threads()
    verdict = "reached" if alone / padded <= LIMITS[precision] else "MISSED"
    command = f"python benchmarks/padding.py --steps {len(steps)} --threads {threads} --precision {precision}"
    title = f"What padding frames cost{'' if precision == 'fp32' else f', and what {precision} saves'}"
    return [
        *header(title, command),
        "A training step (forward, losses, backward) of the default model, ResNet-18 at "
        f"{info.width} x {info.height} px, on windows as long as those of H2O's training split: "
        f"{len(lengths):,} windows with {lengths.sum():,} frames in {slots:,} slots ({lengths.sum() / slots:.3f}). "
        f"One window a step, as long as the mean of each of {len(steps)} equal parts by length; "
        f"the two ways in turn, in one process, after one of each unmeasured. Valid frames alone in {precision}, with "
        "padding in fp32.",
        "",
        f"| frames of {SLOTS} | valid alone, s | with padding, s | ratio | loss, valid alone | loss, with padding |",
        "|---|---|---|---|---|---|",
        *rows,
        f"| **all** | {alone:.1f} | {padded:.1f} | **{alone / padded:.3f}** | | |",
        "",
        f"Valid frames alone take **{alone / padded:.3f}** of the time ({busy_alone / busy_padded:.3f} of the "
        f"processor time); in single steps {min(ratios):.3f} to {max(ratios):.3f}. Frames are "
        f"{np.mean(chosen) / SLOTS:.3f} of the slots in this choice. Wanted: at most {LIMITS[precision]}; {verdict}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=5, help="windows measured, over all lengths")
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use")
    parser.add_argument("--width", type=int, default=480, help="image width, px")
    parser.add_argument("--height", type=int, default=270, help="image height, px")
    parser.add_argument("--precision", choices=list(LIMITS), default="fp32", help="of the step without padding")
    parser.add_argument("--no-result", action="store_true", help="print only")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)

    config = override(Config(), {"train.precision": asked.precision})
    info = DataInfo("h2o", ("action",) * 36, ("object",) * 8, 2, asked.width, asked.height)
    lengths = h2o_lengths(config)
    chosen = [round(part.mean()) for part in np.array_split(lengths, asked.steps)]
    model = HTT(config.model, info).train()
    both_ways(model, info, chosen[0], 0, config)  # the first touch of so much memory takes as long as the step
    steps = []
    for place, frames in enumerate(chosen):
        steps.append(both_ways(model, info, frames, place, config))
        print(f"{frames:4d} frames: {steps[-1][0].seconds:6.1f} s, with padding {steps[-1][1].seconds:6.1f} s")
        np.testing.assert_allclose(steps[-1][0].loss, steps[-1][1].loss, rtol=TOLERANCE[asked.precision])
    name = "padding" if asked.precision == "fp32" else f"padding_{asked.precision}"
    write(name, report(lengths, chosen, steps, info, asked.precision), keep=not asked.no_result)


if __name__ == "__main__":
    main()
