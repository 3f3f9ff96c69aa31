"""Frames per second and latency of a trained model: offline, and while frames arrive.

The paper's size (ResNet-18, t = 16, T = 128, 480x270) with random weights, on one thread and, with ``--device cuda``,
on a GPU::

    python benchmarks/inference.py                     prints, and writes benchmarks/results/inference.md
    python benchmarks/inference.py --no-result         prints
    python benchmarks/inference.py --device cuda

Offline: ``Predictor`` on whole windows of T frames, in fp32 and bf16, with and without batch norm folded into the
convolutions. Streaming: the time from a frame to its hands, with ``predictor.stream``, against running the last window
of t frames again, and against running all frames of the clip so far again, at every frame. All ways see frames that
have the model's size, run in turn within one process, and are compared with fp32 without folding by the distance of
their joints. Padding: a window of a typical length, alone and with the padding that the released code encodes.
"""

from __future__ import annotations

import os

if __name__ == "__main__":  # one thread, before NumPy is loaded
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import argparse
import copy
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from htt import vocabulary
from htt.camera import intrinsics
from htt.config import Config, override
from htt.inference import Predictor
from htt.inference.predictor import fuse_batch_norm
from htt.info import DataInfo
from htt.model.htt import HTT
from result import header, write

MEAN_FRAMES = 11_638 / (254 * 128)
"""Valid share of the frames in H2O's validation windows: 254 windows of 128 frames hold 11,638."""


@dataclass(frozen=True)
class Way:
    """One way to run the model."""

    name: str
    predictor: Predictor


def ways(options: argparse.Namespace) -> list[Way]:
    """Return the model in both precisions, with and without folded batch norm; all have the same weights."""
    config = override(Config(), {"data.spacing": 1, "model.pose.window": options.pose_window,
                                 "model.action.length": options.length})  # fmt: skip
    info = DataInfo("h2o", vocabulary.ACTIONS, vocabulary.OBJECTS, 2, options.width, options.height)
    torch.manual_seed(0)
    model = HTT.without_weights(config.model, info).eval()
    for module in model.modules():  # statistics as different from 0 and 1 as those of a trained network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.25)
    folded = copy.deepcopy(model)
    fuse_batch_norm(folded)
    return [
        Way(f"{precision}{', batch norm folded' if net is folded else ''}",
            Predictor(copy.deepcopy(net), config, options.device, precision))
        for precision in ("fp32", "bf16") for net in (model, folded)
    ]  # fmt: skip


def seconds(call: Callable[[], object], device: str) -> float:
    """Return the duration of a call, s; a GPU has then finished."""
    started = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def offline(found: Sequence[Way], frames: np.ndarray, matrix: np.ndarray, options: argparse.Namespace) -> list[str]:
    """Return the rows of the offline table."""
    taken: dict[str, list[float]] = {way.name: [] for way in found}
    joints = {}
    for number in range(options.rounds + 1):
        for way in found[:: 1 if number % 2 else -1]:
            results: list[np.ndarray] = []
            spent = seconds(lambda way=way, results=results: results.append(way.predictor(frames, matrix).joints_m),
                            options.device)  # fmt: skip
            joints[way.name] = results[0]
            if number:  # the first round warms up
                taken[way.name].append(spent)
    plain = joints[found[0].name]
    rows = []
    for way in found:
        rates = [len(frames) / each for each in taken[way.name]]
        apart_mm = 1000 * float(np.linalg.norm(joints[way.name] - plain, axis=-1).mean())
        rows.append(
            f"| {way.name} | {statistics.median(rates):.1f} | {min(rates):.1f} to {max(rates):.1f} | {apart_mm:.3f} |"
        )
    return rows


class Padded(torch.nn.Module):
    """Image encoder that runs on every slot of a window, as the released code does; features of padding are dropped."""

    def __init__(self, features: torch.nn.Module, slots: int) -> None:
        super().__init__()
        self.features, self.slots = features, slots

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the features of the frames."""
        padding = frames[-1:].expand(self.slots - len(frames), -1, -1, -1)
        return self.features(torch.cat([frames, padding]))[: len(frames)]


def padding(way: Way, frames: np.ndarray, matrix: np.ndarray, options: argparse.Namespace) -> str:
    """Return the result of predicting a window as long as the mean of H2O's evaluation, without and with padding."""
    count = max(1, round(len(frames) * MEAN_FRAMES))
    model = way.predictor.model
    features = model.features
    taken: dict[bool, list[float]] = {False: [], True: []}
    for number in range(options.rounds + 1):
        for padded in (False, True) if number % 2 else (True, False):
            model.features = Padded(features, len(frames)) if padded else features
            spent = seconds(lambda: way.predictor(frames[:count], matrix), options.device)
            if number:  # the first round warms up
                taken[padded].append(spent)
    model.features = features
    alone, padded_s = (statistics.median(taken[padded]) for padded in (False, True))
    return (
        f"A window of {count} frames, the mean share of valid frames in H2O's evaluation windows, takes "
        f"**{alone / padded_s:.3f}** of the time that it takes padded to {len(frames)} frames, as in the released code "
        f"({count / alone:.1f} and {count / padded_s:.1f} frames/s, {way.name}, medians of {options.rounds})."
    )


def latencies(way: Way, frames: np.ndarray, matrix: np.ndarray, options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds per frame of each way to get the hands of the newest frame."""
    predictor, device = way.predictor, options.device
    found: dict[str, list[float]] = {"stream": [], "window again": [], "clip again": []}
    stream = predictor.stream(matrix)
    places = np.linspace(options.pose_window, len(frames), options.again).round().astype(int)
    for number, frame in enumerate(frames, 1):
        spent = seconds(lambda frame=frame: stream(frame), device)
        if number > options.pose_window:  # the first ones warm up
            found["stream"].append(spent)
        if number in places:
            window, clip = frames[number - options.pose_window : number], frames[:number]
            found["window again"].append(seconds(lambda window=window: predictor(window, matrix), device))
            found["clip again"].append(seconds(lambda clip=clip: predictor(clip, matrix), device))
    return found


def streaming(found: Sequence[Way], frames: np.ndarray, matrix: np.ndarray, options: argparse.Namespace) -> list[str]:
    """Return the rows of the streaming table."""
    rows = []
    for way in found:
        for name, taken in latencies(way, frames, matrix, options).items():
            middle, late = (1000 * float(np.quantile(taken, level)) for level in (0.5, 0.95))
            rate = len(taken) / sum(taken)
            rows.append(f"| {way.name} | {name} | {middle:.1f} | {late:.1f} | {rate:.1f} | {len(taken)} |")
    return rows


def main() -> None:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--again", type=int, default=5, help="frames at which window and clip are run again")
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--height", type=int, default=270)
    parser.add_argument("--pose-window", type=int, default=16)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--no-result", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (options.length, options.height, options.width, 3), dtype=np.uint8)
    matrix = intrinsics(0.5 * options.width, 0.5 * options.width, options.width / 2, options.height / 2)
    found = ways(options)
    on = "one thread" if options.device == "cpu" else torch.cuda.get_device_name()
    lines = [
        *header("Inference", shlex.join(["python", "benchmarks/inference.py", *sys.argv[1:]]), ("torch", "numpy")),
        f"ResNet-18, {options.width}x{options.height}, t = {options.pose_window}, T = {options.length}, random "
        f"weights, {on}. Frames have the model's size; decoding is not measured.",
        "",
        f"Offline, a clip of T frames, {options.rounds} rounds.",
        "",
        "| model | frames/s, median | range | joints apart, mm |",
        "|---|---|---|---|",
        *offline(found, frames, matrix, options),
        "",
        padding(found[0], frames, matrix, options),
        "",
        "Streaming: from a frame to its hands. \"Again\" runs the last t frames, or all frames so far, at every frame; "
        f"both at {options.again} frames spread over the clip.",
        "",
        "| model | way | median, ms | 95 %, ms | frames/s | frames |",
        "|---|---|---|---|---|---|",
        *streaming(found, frames, matrix, options),
    ]  # fmt: skip
    name = "inference" if options.device == "cpu" else "inference_gpu"
    write(name, lines, keep=not options.no_result)


if __name__ == "__main__":
    main()
