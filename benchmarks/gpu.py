"""Everything that needs a GPU, in one command and nine minutes: parity, speed, memory, sharing, resuming, searching.

::

    python benchmarks/gpu.py                                  # writes benchmarks/results/gpu.md
    python benchmarks/gpu.py --device cpu --tiny --no-result  # the same parts in minutes on a CPU, to test the command
    python benchmarks/gpu.py --parts steps resume             # some parts only

Data are rendered or random, and nothing is downloaded. Each part has a time limit; a part that fails is named in the
result with its error, and the next one begins. The windows are as long as those of H2O's training split.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # tune/ is found from the project's root; Python's own folder here is benchmarks/
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import contextlib
import functools
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from htt import device
from htt.batch import Batch, Layout
from htt.config import BackboneConfig, Config, override, to_yaml
from htt.data.loading.loader import TrainingLoader
from htt.group import Group
from htt.info import DataInfo
from htt.model.features import FrameFeatures
from htt.model.htt import HTT
from htt.testing import random_batch, tiny_config
from htt.training import checkpoint, optim
from htt.training.augment import augment
from htt.training.finite import FiniteCheck
from htt.training.loop import Precision, step_generator, train_step
from loading import make_clips
from padding import SLOTS, EverySlot, h2o_lengths
from result import header, write
from tune.experiments.spaces.quick import SPACE
from tune.results.run_folder import RunFolder
from tune.results.selection import ranked

ROOT = Path(__file__).resolve().parents[1]
GOLDEN_TEST = ROOT / "tests" / "htt" / "model" / "test_golden.py"
PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""{part of a GPU's name: operations per second with dense bf16 matrices, by its data sheet}."""
PARITY_FP32 = 1e-3
"""Largest difference from the released code's numbers, relative to each number plus the mean of its array."""


@dataclass(frozen=True)
class Setting:
    """Device and size of the measurements."""

    device: torch.device
    tiny: bool
    scratch: Path

    @property
    def config(self) -> Config:
        """The paper's configuration, or a tiny one."""
        return tiny_config(**{"train.batch_size": 2}) if self.tiny else Config()

    @property
    def info(self) -> DataInfo:
        """Classes of H2O and the images' size."""
        width, height = (64, 36) if self.tiny else (480, 270)
        return DataInfo("h2o", ("action",) * 36, ("object",) * 8, 2, width, height)

    @property
    def group(self) -> Group:
        """One worker on the device."""
        return Group(device=self.device)

    def batches(self, count: int) -> list[Batch]:
        """Return batches of two windows, on the device, with lengths from all of H2O's training windows."""
        lengths = np.minimum(h2o_lengths(Config()), self.config.model.action.length)
        chosen = [round(part.mean()) for part in np.array_split(lengths, 2 * count)]
        pairs = zip(chosen[:count], reversed(chosen[count:]), strict=True)
        return [random_batch(self.info, pair, seed=seed).to(self.device) for seed, pair in enumerate(pairs)]

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], object]) -> float:
        """Return the duration of some work on the device, s."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began


class OutOfTimeError(Exception):
    """A part that exceeds its time limit."""


# Parts: each returns lines of Markdown.


def parity(setting: Setting) -> list[str]:
    """Compare the outputs with the released code's, for weights set by a rule."""
    spec = importlib.util.spec_from_file_location("golden", GOLDEN_TEST)
    assert spec is not None
    assert spec.loader is not None
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    shapes = json.loads((golden.GOLDEN / "state_dict_shapes_fpha.json").read_text())
    path = setting.scratch / "htt_fpha.pth"
    torch.save({"state_dict": {f"module.{key}": golden.weight_by_rule(key, shapes[key]) for key in shapes}}, path)
    config = override(Config(), {"model.pose.window": 4, "model.action.length": 16}).model
    model = checkpoint.import_official(path, config, golden.info("fpha", 96, 54)).to(setting.device)
    with np.load(golden.GOLDEN / "model_fpha_like.npz") as arrays:
        expected = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    valid = expected["valid"]
    given = [expected["images"][valid], valid, expected["intrinsics"].expand(2, 3, 3)]
    names = {"joints_px": "joints_px", "depth_m": "joints_depth_m", "joints_m": "joints_m", "object_logits": ""}
    rows, missed = [], False
    for precision in ("fp32", "tf32", "bf16"):
        with contextlib.suppress(Exception) if precision == "tf32" else contextlib.nullcontext():
            with torch.no_grad(), Precision(precision, setting.device).autocast():
                found = model(*(tensor.to(setting.device) for tensor in given))
            worst = {
                ours: _difference(getattr(found, ours), expected[theirs or ours][valid])
                for ours, theirs in names.items()
            }
            worst["action_logits"] = _difference(found.action_logits, expected["action_logits"])
            missed |= precision == "fp32" and max(worst.values()) > PARITY_FP32
            rows.append(f"| {precision} | {' | '.join(f'{value:.1e}' for value in worst.values())} |")
    return [
        f"Largest relative difference from the released code's numbers; fp32 must reach {PARITY_FP32:g}: "
        f"{'MISSED' if missed else 'reached'}.",
        "",
        f"| precision | {' | '.join([*names, 'action_logits'])} |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _difference(found: Tensor, expected: Tensor) -> float:
    return float(((found.cpu() - expected).abs() / (expected.abs() + expected.abs().mean())).max())


def steps(setting: Setting) -> list[str]:
    """Time whole training steps in each precision, compiled, and with padding."""
    batches = setting.batches(3 if setting.tiny else 6)
    frames = sum(len(batch.frames) for batch in batches)
    flops = _flops(setting, batches)
    peak = next((rate for part, rate in PEAK_BF16.items() if part in _gpu_name(setting)), None)
    ways: list[tuple[str, str, bool, bool]] = [
        ("fp32", "fp32", False, False),
        ("fp32, with padding", "fp32", True, False),
    ]
    ways += [("bf16", "bf16", False, False), ("bf16, compiled", "bf16", False, True)]
    if setting.device.type == "cuda":
        ways.insert(2, ("tf32", "tf32", False, False))
    counters.clear()
    rows, seconds = [], {}
    for name, precision, padded, compiled in ways:
        try:
            seconds[name], memory, first = _steps_of(setting, batches, precision, padded=padded, compiled=compiled)
        except OutOfTimeError:
            raise
        except Exception as error:
            rows.append(f"| {name} | failed: {_last_line(error)} | | | | |")
            continue
        share = f"{flops / seconds[name] / peak:.3f}" if peak and not padded else "-"
        rows.append(
            f"| {name} | {1000 * seconds[name] / len(batches):.1f} | {frames / seconds[name]:,.0f} | {memory:.1f} | "
            f"{share} | {first:.1f} |"
        )
    ratio = seconds.get("fp32, with padding", float("nan")) / seconds.get("fp32", float("nan"))
    return [
        f"Steps of two windows, forward to optimiser: {len(batches)} batches with {frames} frames in all, "
        f"{flops / 1e12 / frames:.3f} TFLOP per frame. With padding a step takes **{ratio:.1f}** times as long (aim: 8 "
        f"against our fastest). Aim: 0.4 of the bf16 peak. torch.compile found {counters['stats']['unique_graphs']} "
        f"graphs and {sum(counters['graph_break'].values())} breaks.",
        "",
        "| step | ms | frames/s | peak memory, GB | share of bf16 peak | first step, s |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _steps_of(
    setting: Setting, batches: Sequence[Batch], name: str, *, padded: bool, compiled: bool, deterministic: bool = False
) -> tuple[float, float, float]:
    """Return the time of a step for each batch, s, the peak memory, GB, and the time of the first step, s."""
    device.prepare(setting.device, deterministic=deterministic)
    config, precision = setting.config, Precision(name, setting.device)
    torch.manual_seed(0)
    model = HTT(config.model, setting.info).to(setting.device).train()
    optimizer = optim.optimizer(config.optim, model.parameters())
    features = model.features
    compiler = "eager" if setting.tiny else "inductor"  # compiling takes minutes on a CPU
    called: nn.Module = torch.compile(model, dynamic=True, backend=compiler) if compiled else model
    if padded:
        batches = [_padded(batch, min(SLOTS, config.model.action.length)) for batch in batches]

    layouts = [Layout.of(batch.valid.cpu(), config.model.pose.window).to(setting.device) for batch in batches]
    checks = FiniteCheck(setting.device)

    def step(batch: Batch, layout: Layout) -> None:
        if padded:
            model.features = EverySlot(features, batch.valid)
        how = {"group": setting.group, "precision": precision, "check": functools.partial(checks.add, 1, 0)}
        train_step(called, batch, optimizer, config, layout=layout, **how)

    def once() -> None:
        for batch, layout in zip(batches, layouts, strict=True):
            step(batch, layout)
        checks.finish()

    first = setting.timed(lambda: step(batches[0], layouts[0]))
    once()
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    taken = statistics.median(setting.timed(once) for _ in range(1 if setting.tiny else 3))
    memory = torch.cuda.max_memory_allocated(setting.device) / 1e9 if setting.device.type == "cuda" else 0.0
    return taken, memory, first


def _padded(batch: Batch, slots: int) -> Batch:
    """Return a batch with an image in every slot, the last frame of each window repeated, as the released code has."""
    counts = batch.valid.sum(dim=1).tolist()
    starts = np.cumsum([0, *counts[:-1]])
    index = [start + min(slot, count - 1) for start, count in zip(starts, counts, strict=True) for slot in range(slots)]
    valid = nn.functional.pad(batch.valid, (0, slots - batch.valid.shape[1]))
    return replace(batch, frames=batch.frames[torch.tensor(index, device=batch.frames.device)], valid=valid)


def _flops(setting: Setting, batches: Sequence[Batch]) -> float:
    """Return the operations of a forward and a backward pass over all batches."""
    model = HTT(setting.config.model, setting.info).to(setting.device).train()
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            model(batch.frames, batch.valid, batch.intrinsics).joints_raw.sum().backward()
    return float(counter.get_total_flops())


def deterministic(setting: Setting) -> list[str]:
    """Time steps with deterministic algorithms, and compare two equal runs with and without them."""
    batches = setting.batches(2 if setting.tiny else 4)
    taken, differing = {}, {}
    for wanted in (True, False):  # the setting of this process stays
        taken[wanted] = _steps_of(setting, batches, "fp32", padded=False, compiled=False, deterministic=wanted)[0]
        one, other = (_weights_after(setting, batches, wanted) for _ in range(2))
        differing[wanted] = max(float((one[name] - other[name]).abs().max()) for name in one)
    return [
        f"`train.deterministic` takes **{taken[True] / taken[False]:.2f}** times the time of a step. Two equal "
        f"trainings of {len(batches)} steps differ by at most {differing[True]:.1e} in a weight with it, "
        f"{differing[False]:.1e} without."
    ]


def _weights_after(setting: Setting, batches: Sequence[Batch], wanted: bool) -> dict[str, Tensor]:
    device.prepare(setting.device, deterministic=wanted)
    config = setting.config
    torch.manual_seed(0)
    model = HTT(config.model, setting.info).to(setting.device).train()
    optimizer = optim.optimizer(config.optim, model.parameters())
    for batch in batches:
        train_step(model, batch, optimizer, config, group=setting.group)
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters()}


def loader(setting: Setting) -> list[str]:
    """Time loading, augmentation and copying alone against the step in bf16: the GPU's idle share."""
    width, height = setting.info.width, setting.info.height
    clips = make_clips(setting.scratch / "frames", width, height, 4 if setting.tiny else 12)
    config = override(setting.config, {"train.windows_per_epoch": 8 if setting.tiny else 40, "train.batch_size": 2})
    group, rows = setting.group, []
    batches = setting.batches(3)
    step_s = _steps_of(setting, batches, "bf16", padded=False, compiled=False)[0]
    frame_s = step_s / sum(len(batch.frames) for batch in batches)
    for processes in (0, 2 if setting.tiny else 8):
        loading = TrainingLoader(clips, override(config, {"runtime.loader_workers": processes}))
        frames = 0
        for number, batch in enumerate(loading.epoch(0)):
            if number == 2:  # after the start of the processes
                setting.wait()
                began, frames = time.perf_counter(), 0
            layout = Layout.of(batch.valid, config.model.pose.window).to(setting.device)
            random = step_generator(0, number, group)
            seen = augment(batch.to(setting.device), config.data.augment, random, layout)
            frames += len(seen.frames)
        setting.wait()
        loaded_s = (time.perf_counter() - began) / frames
        idle = max(0.0, 1 - frame_s / loaded_s)
        rows.append(f"| {processes} | {1 / loaded_s:,.0f} | {1 / frame_s:,.0f} | {100 * idle:.0f} % |")
    return [
        f"Frames/s of the loader with augmentation and copy, and of the step in bf16, with {torch.get_num_threads()} "
        "threads. If the loader is slower, the GPU waits.",
        "",
        "| loader processes | loader, frames/s | step, frames/s | GPU idle |",
        "|---|---|---|---|",
        *rows,
    ]


def encoding(setting: Setting) -> list[str]:
    """Time the encoding of features by ResNet-18 and by a ViT-S with random weights."""
    from transformers import ViTConfig, ViTModel

    folder, size = setting.scratch / "vit", 32 if setting.tiny else 224
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    full = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    ViTModel(ViTConfig(image_size=size, patch_size=16, **(shape if setting.tiny else full))).save_pretrained(folder)
    name = "resnet_tiny" if setting.tiny else "resnet18"
    images = torch.randint(0, 256, (64, 3, setting.info.height, setting.info.width), dtype=torch.uint8)
    rows = []
    for label, backbone in (
        (name, BackboneConfig(name=name)),
        ("ViT-S", BackboneConfig(name=str(folder), weights="random", normalise="imagenet", size=size)),
    ):
        torch.manual_seed(0)
        features = FrameFeatures(backbone, 64).eval().requires_grad_(False)
        features.trained = False
        features = features.to(setting.device)

        def encode(features: FrameFeatures = features) -> object:
            return features.encode(images.to(setting.device)).half().cpu()

        with torch.inference_mode():
            encode()
            rate = len(images) / statistics.median(setting.timed(encode) for _ in range(2 if setting.tiny else 9))
        rows.append(f"| {label} | {rate:,.0f} |")
    return ["| encoder, fp32, 64 images at once | frames/s |", "|---|---|", *rows]


def prediction(setting: Setting) -> list[str]:
    """Time the prediction of whole windows, and of a stream of frames of which each is encoded once."""
    model = HTT(setting.config.model, setting.info).to(setting.device).eval()
    length = setting.config.model.action.length
    batch = random_batch(setting.info, [length]).to(setting.device)
    rows = []
    for name in ("fp32", "bf16"):
        precision = Precision(name, setting.device)

        def whole(precision: Precision = precision) -> None:
            with precision.autocast():
                model(batch.frames, batch.valid, batch.intrinsics)

        def stream(precision: Precision = precision) -> None:
            kept = torch.zeros(length, model.features.backbone.width, device=setting.device)
            for frame in batch.frames.split(1)[:32]:
                with precision.autocast():
                    newest = model.features.encode(frame).float()
                    kept = torch.cat([kept[1:], newest])
                    model(kept, batch.valid, batch.intrinsics).action_logits.argmax().item()

        with torch.inference_mode():
            whole()
            stream()
            windows_s = statistics.median(setting.timed(whole) for _ in range(5))
            stream_s = statistics.median(setting.timed(stream) for _ in range(3))
        rows.append(f"| {name} | {length / windows_s:,.0f} | {min(32, length) / stream_s:,.0f} |")
    return [
        f"Windows of {length} frames; streaming encodes each frame once and predicts after each (aim: 200 frames/s).",
        "",
        "| precision | windows, frames/s | streaming, frames/s |",
        "|---|---|---|",
        *rows,
    ]


TRAIN = """
import sys
from pathlib import Path
from htt.config import read
from htt.training.tasks import train
folder = Path(sys.argv[1])
resume = folder / "checkpoint" if len(sys.argv) > 2 else None
def report(metrics, saved):
    print("epoch", metrics["epoch"], metrics["train_seconds"], metrics["loss"], flush=True)
train(read(folder / "config.yaml"), folder, report, resume)
print("done", flush=True)
"""
"""Program that trains the configuration in a folder, from its checkpoint if a second argument is given."""


def _started(setting: Setting, folder: Path, config: Config, *more: str) -> subprocess.Popen[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(to_yaml(config))
    return subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(folder), *more], stdout=subprocess.PIPE, text=True, env=_environment(setting)
    )


def _trained(setting: Setting, config: Config, *names: str, more: Sequence[str] = ()) -> list[str]:
    """Train in processes side by side, one per folder; return the words of the last epoch of the first."""
    children = [_started(setting, setting.scratch / name, config, *more) for name in names]
    try:
        outputs = [child.communicate()[0].splitlines() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    for child, lines in zip(children, outputs, strict=True):
        if child.returncode or lines[-1:] != ["done"]:
            raise RuntimeError(f"a training left with {child.returncode}; its error is above")
    return outputs[0][-2].split() if len(outputs[0]) > 1 else []


def _environment(setting: Setting) -> dict[str, str]:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if setting.device.type == "cpu" else {}
    cache = os.environ.get("HTT_CACHE", str(setting.scratch / "cache"))
    return {**os.environ, **hidden, "PYTHONPATH": str(ROOT), "HTT_CACHE": cache, "PYTHONUNBUFFERED": "1"}


def _trained_config(setting: Setting, **values: Any) -> Config:
    """Return the base of the default search, or a tiny one, without TensorBoard."""
    base = setting.config if setting.tiny else override(Config(), SPACE.base)
    return override(base, {"runtime.tensorboard": False, **values})


def features_trial(setting: Setting) -> list[str]:
    """Train a trial of the default search on stored features, in a process of its own."""
    weights = {"model.backbone.trained": False, "model.backbone.weights": "rendered", "data.augment.views": 0}
    config = _trained_config(setting, **weights, **{"train.epochs": 2 if setting.tiny else 4})
    began = time.monotonic()
    _trained(setting, config, "features")
    whole = time.monotonic() - began
    again = time.monotonic()
    last = _trained(setting, config, "features-again")
    return [
        f"{config.train.epochs} epochs on features of rendered clips: {whole:.0f} s with rendering and encoding, "
        f"{time.monotonic() - again:.0f} s when these are there; the training part of the last epoch "
        f"{float(last[2]):.2f} s."
    ]


def resume(setting: Setting) -> list[str]:
    """Kill a training after its first epoch, resume it, and compare with an undisturbed one."""
    whole = {"model.backbone.trained": True, "data.augment.views": None}
    config = _trained_config(setting, **whole, **{"train.epochs": 3, "train.deterministic": True})
    folders = [setting.scratch / "whole", setting.scratch / "killed"]
    _trained(setting, config, "whole")
    child = _started(setting, folders[1], config)
    try:
        while child.stdout and (line := child.stdout.readline()) and not line.startswith("epoch 1"):
            pass
    finally:
        child.kill()
        child.wait()
    _trained(setting, config, "killed", more=["resume"])
    one, other = (checkpoint.load(folder / "checkpoint")[0].state_dict() for folder in folders)
    worst = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
    return [f"Killed after an epoch and resumed, with `train.deterministic`: weights differ by at most {worst:.1e}."]


def sharing(setting: Setting) -> list[str]:
    """Train twice side by side on one device, and twice one after the other."""
    config = _trained_config(setting, **{"train.epochs": 1 if setting.tiny else 2})
    _trained(setting, config, "warm")  # renders and encodes
    began = time.monotonic()
    for number in (1, 2):
        _trained(setting, config, f"alone-{number}")
    alone = time.monotonic() - began
    began = time.monotonic()
    _trained(setting, config, "beside-1", "beside-2")
    beside = time.monotonic() - began
    return [
        f"Two trainings side by side on one device: {beside:.1f} s; one after the other: {alone:.1f} s; ratio "
        f"**{beside / alone:.2f}**, with the start of each process."
    ]


def fractions(setting: Setting) -> list[str]:
    """Run a search whose trials have two workers on half a GPU each: the workers of a trial share the GPU by gloo."""
    gpus = [] if setting.device.type == "cpu" else ["--gpus-per-trial", "1"]
    words = ["--workers-per-trial", "2", *gpus, "--cpus-per-worker", "0.5", "--trials", "1"]
    folder, seconds = _search(setting, "fractions", [*words, "--set", "train.epochs=1"])
    states = [trial.state for trial in folder.trials()]
    if states != ["complete"]:
        raise RuntimeError(f"its trials ended as {states}: {[trial.error for trial in folder.trials()]}")
    return [f"A trial of two workers on half a GPU each ended complete, in {seconds:.0f} s with the start of Ray."]


def search(setting: Setting) -> list[str]:
    """Run the default search twice, each for a fixed time, and give the best of each."""
    limit = ["--trials", "2"] if setting.tiny else ["--time-budget", "100s"]
    short = ["--set", "train.epochs=1"] if setting.tiny else []
    shared = [] if setting.device.type == "cpu" else ["--gpus-per-trial", "0.25"]
    rows = []
    for seed in (0, 1):
        words = [*limit, *short, *shared, "--seed", str(seed), "--finalists", "0"]
        folder, seconds = _search(setting, f"seed-{seed}", words)
        trials = folder.trials()
        best = ranked(trials, "hand_error_mm")[0]
        failed = [trial.error for trial in trials if trial.state == "failed"]
        rows.append(
            f"| {seed} | {seconds:.0f} | {len(trials)} | {len(failed)} | {best.metrics['hand_error_mm']:.1f} | "
            f"{100 * best.metrics['action_accuracy']:.1f} |"
        )
    return ["| seed | seconds | trials | failed | hand error, mm | actions, % |", "|---|---|---|---|---|---|", *rows]


def _search(setting: Setting, name: str, words: Sequence[str]) -> tuple[RunFolder, float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tune" / "search.py"), "--name", name, *words],
        cwd=setting.scratch, env=_environment(setting), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(
            f"the search left with {done.returncode}: {' '.join((done.stdout + done.stderr).split())[-250:]}"
        )
    return RunFolder(setting.scratch / "runs" / name), time.monotonic() - began


PARTS: dict[str, tuple[Callable[[Setting], list[str]], float]] = {
    "parity": (parity, 25),
    "steps": (steps, 90),
    "deterministic": (deterministic, 20),
    "loader": (loader, 40),
    "encoding": (encoding, 25),
    "prediction": (prediction, 20),
    "features_trial": (features_trial, 40),
    "resume": (resume, 45),
    "sharing": (sharing, 45),
    "fractions": (fractions, 60),
    "search": (search, 260),
}
"""{name: (function, time limit in s)}, the most important first; the limits are of the full size on one GPU."""
TINY_FACTOR = 10
"""Factor of the time limits on a CPU, which may be busy."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise ``OutOfTimeError`` in the ``with`` block after so many seconds."""

    def end(*_: object) -> None:
        raise OutOfTimeError(f"not finished within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure(setting: Setting, names: Sequence[str], budget_s: float) -> tuple[list[str], list[str]]:
    """Run the parts; return their sections, and a line for each that failed."""
    lines: list[str] = []
    failed: list[str] = []
    began = time.monotonic()
    for name in names:
        part, limit_s = PARTS[name]
        left_s = budget_s - (time.monotonic() - began)
        limit_s = min(left_s, limit_s * (TINY_FACTOR if setting.tiny else 1))
        started = time.monotonic()
        try:
            if limit_s <= 0:
                raise OutOfTimeError("no time left")
            with limited(limit_s):
                found = part(setting)
        except Exception as error:  # the other parts are measured all the same
            traceback.print_exc()
            found = [f"FAILED: {_last_line(error)}"]
            failed.append(f"- {name}: {_last_line(error)}")
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
        took = time.monotonic() - started
        print(f"{name}: {took:.0f} s", flush=True)
        lines += [f"## {name}", "", *found, "", f"({took:.0f} s)", ""]
    return lines, failed


def _last_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[-1]
    return f"{type(error).__name__}: {text[:300]}".replace("|", "/")


def _gpu_name(setting: Setting) -> str:
    return torch.cuda.get_device_name(setting.device) if setting.device.type == "cuda" else "no GPU"


def main() -> None:
    """Measure all parts and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="device (default: cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny network and images, a few steps of everything")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="parts (default: all)")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all (default: 540)")
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("This machine has no GPU that torch can use. To test the command: --device cpu --tiny.")
    with tempfile.TemporaryDirectory(prefix="gpu-") as scratch:
        setting = Setting(torch.device(options.device), options.tiny, Path(scratch))
        if options.tiny:  # idle threads spin
            torch.set_num_threads(1)
            os.environ["OMP_NUM_THREADS"] = "1"
        began = time.monotonic()
        lines, failed = measure(setting, options.parts, options.budget)
        took = time.monotonic() - began
    top = header("On a GPU", f"python benchmarks/gpu.py --device {options.device}{' --tiny' * options.tiny}")
    top.insert(-1, f"- Device: {_gpu_name(setting)}, CUDA {torch.version.cuda}; {took:.0f} s in all")
    summary = ["Parts that failed:", "", *failed, ""] if failed else ["No part failed.", ""]
    write("gpu", [*top, *summary, *lines], keep=not options.no_result)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
