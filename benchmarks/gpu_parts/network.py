"""Parts that measure a network in this process: parity, steps, compiling, determinism, attention, loader, encoding."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gpu_parts.setting import Setting, last_line
from htt import device
from htt.batch import Batch, Layout
from htt.config import BackboneConfig, Config, override
from htt.data.loading.loader import TrainingLoader
from htt.inference.predictor import Predictor
from htt.model.features import FrameFeatures
from htt.model.htt import HTT
from htt.training import checkpoint, loop, optim
from htt.training.augment import augment
from htt.training.finite import FiniteCheck
from htt.training.loop import Precision, step_generator, train_step
from loading import make_clips
from padding import SLOTS, EverySlot

GOLDEN_TEST = Path(__file__).parents[2] / "tests" / "htt" / "model" / "test_golden.py"
PEAK_BF16 = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""{part of a GPU's name: operations per second with dense bf16 matrices, by its data sheet}."""
PARITY_FP32 = 1e-3
"""Largest difference from the released code's numbers, relative to each number plus the mean of its array."""
OUTPUTS = {"joints_px": "joints_px", "depth_m": "joints_depth_m", "joints_m": "joints_m",
           "object_logits": "object_logits", "action_logits": "action_logits"}  # fmt: skip
"""{output of the model: its name in the golden file}."""


def parity(setting: Setting) -> Iterator[str]:
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
    yield "Largest difference from the released code's numbers, relative to each number plus the mean of its array."
    yield from ("", f"| precision | {' | '.join(OUTPUTS)} |", "|---|---|---|---|---|---|")
    worst: dict[str, float] = {}
    for name in ("fp32", "tf32", "bf16") if setting.gpu else ("fp32", "bf16"):
        with torch.no_grad(), Precision(name, setting.device).autocast():
            found = model(*(tensor.to(setting.device) for tensor in given))
        differences = []
        for ours, theirs in OUTPUTS.items():
            wanted = expected[theirs] if ours == "action_logits" else expected[theirs][valid]
            differences.append(_difference(getattr(found, ours), wanted))
        worst[name] = max(differences)
        yield f"| {name} | {' | '.join(f'{value:.1e}' for value in differences)} |"
    if not worst["fp32"] <= PARITY_FP32:
        raise RuntimeError(f"fp32 differs by {worst['fp32']:.1e}; at most {PARITY_FP32:g} is allowed")


def _difference(found: Tensor, expected: Tensor) -> float:
    return float(((found.cpu() - expected).abs() / (expected.abs() + expected.abs().mean())).max())


def steps(setting: Setting) -> Iterator[str]:
    """Time whole training steps in each precision, and with padding."""
    batches = setting.batches(3 if setting.tiny else 6)
    frames = sum(len(batch.frames) for batch in batches)
    flops = _flops(setting, batches)
    name_of_gpu = torch.cuda.get_device_name(setting.device) if setting.gpu else ""
    peak = next((rate for part, rate in PEAK_BF16.items() if part in name_of_gpu), None)
    yield (
        f"Steps of two windows, forward to optimiser: {len(batches)} batches with {frames} frames in all, "
        f"{flops / 1e12 / frames:.3f} TFLOP per frame. Aim: 0.4 of the bf16 peak."
    )
    yield from ("", "| step | ms | frames/s | peak memory, GB | share of bf16 peak | first step, s |")
    yield "|---|---|---|---|---|---|"
    ways = [("bf16", False), ("fp32", False), *([("tf32", False)] if setting.gpu else []), ("fp32", True)]
    seconds, failed = {}, []
    for precision, padded in ways:
        name = f"{precision}, with padding" if padded else precision
        try:
            seconds[name], memory, first = _steps_of(setting, batches, precision, padded=padded)
        except Exception as error:  # the other steps are measured all the same
            failed.append(f"{name}: {last_line(error)}")
            yield f"| {name} | failed: {last_line(error)} | | | | |"
            continue
        share = f"{flops / seconds[name] / peak:.3f}" if peak and not padded else "-"
        step_ms, rate = 1000 * seconds[name] / len(batches), frames / seconds[name]
        yield f"| {name} | {step_ms:.1f} | {rate:,.0f} | {memory:.1f} | {share} | {first:.1f} |"
    if failed:
        raise RuntimeError("; ".join(failed))
    padded_s = seconds["fp32, with padding"]
    yield ""
    yield (
        f"With padding an fp32 step takes **{padded_s / seconds['fp32']:.1f}** times as long as ours in fp32, "
        f"**{padded_s / min(seconds.values()):.1f}** times as long as our fastest (aim: 8)."
    )


def compiled(setting: Setting) -> Iterator[str]:
    """Compare compiled steps with plain ones, and count graphs and breaks."""
    from torch._dynamo.utils import counters

    if setting.tiny:
        loop.COMPILER = "eager"  # others take minutes on a CPU
    batches = setting.batches(3 if setting.tiny else 6)
    counters.clear()
    plain_s, plain_gb, plain_first_s = _steps_of(setting, batches, "bf16")
    whole_s, whole_gb, first_s = _steps_of(setting, batches, "bf16", compiled=True)
    gained_s = (plain_s - whole_s) / len(batches)
    worth = f"after {(first_s - plain_first_s) / gained_s:,.0f} steps" if gained_s > 0 else "never"
    yield (
        f"A compiled bf16 step takes **{whole_s / plain_s:.2f}** of the time of a plain one: {1000 * whole_s:.1f} and "
        f"{1000 * plain_s:.1f} ms for {len(batches)} steps; peak memory {whole_gb:.1f} and {plain_gb:.1f} GB. The "
        f"first step takes {first_s:.0f} s, so compiling pays {worth} (train.compile auto: {loop.COMPILED_FROM:,}). "
        f"{counters['stats']['unique_graphs']} graphs, {sum(counters['graph_break'].values())} breaks."
    )


def _steps_of(
    setting: Setting,
    batches: Sequence[Batch],
    name: str,
    *,
    padded: bool = False,
    compiled: bool = False,
    deterministic: bool = False,
) -> tuple[float, float, float]:
    """Return the time of a step for each batch, s, the peak memory, GB, and the time of the first step, s."""
    device.prepare(setting.device, deterministic=deterministic)
    config = override(setting.config, {"train.compile": "on" if compiled else "off"})
    precision = Precision(name, setting.device)
    torch.manual_seed(0)
    model = HTT(config.model, setting.info).to(setting.device).train()
    optimizer = optim.optimizer(config.optim, model.parameters())
    features = model.features
    called = loop.compiled(model, config, setting.group, steps=0)
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
    if setting.gpu:
        torch.cuda.reset_peak_memory_stats(setting.device)
    taken = statistics.median(setting.timed(once) for _ in range(1 if setting.tiny else 3))
    memory = torch.cuda.max_memory_allocated(setting.device) / 1e9 if setting.gpu else 0.0
    return taken, memory, first


def _padded(batch: Batch, slots: int) -> Batch:
    """Return a batch with an image in every slot, the last frame of each window repeated, as the released code has."""
    counts = batch.valid.sum(dim=1).tolist()
    starts = np.cumsum([0, *counts[:-1]])
    index = [start + min(slot, count - 1) for start, count in zip(starts, counts, strict=True) for slot in range(slots)]
    valid = F.pad(batch.valid, (0, slots - batch.valid.shape[1]))
    return replace(batch, frames=batch.frames[torch.tensor(index, device=batch.frames.device)], valid=valid)


def _flops(setting: Setting, batches: Sequence[Batch]) -> float:
    """Return the operations of a forward and a backward pass over all batches."""
    model = HTT(setting.config.model, setting.info).to(setting.device).train()
    with FlopCounterMode(display=False) as counter:
        for batch in batches:
            model(batch.frames, batch.valid, batch.intrinsics).joints_raw.sum().backward()
    return float(counter.get_total_flops())


def deterministic(setting: Setting) -> Iterator[str]:
    """Time steps with deterministic algorithms, and compare two equal runs with and without them."""
    batches = setting.batches(2 if setting.tiny else 4)
    taken, differing = {}, {}
    for wanted in (True, False):
        taken[wanted] = _steps_of(setting, batches, "fp32", deterministic=wanted)[0]
        one, other = (_weights_after(setting, batches, wanted) for _ in range(2))
        differing[wanted] = max(float((one[name] - other[name]).abs().max()) for name in one)
    yield (
        f"`train.deterministic` takes **{taken[True] / taken[False]:.2f}** times the time of a step. Two equal "
        f"trainings of {len(batches)} steps differ by at most {differing[True]:.1e} in a weight with it, "
        f"{differing[False]:.1e} without."
    )
    if differing[True]:
        raise RuntimeError(f"two deterministic trainings differ by {differing[True]:.1e}")


def _weights_after(setting: Setting, batches: Sequence[Batch], wanted: bool) -> dict[str, Tensor]:
    device.prepare(setting.device, deterministic=wanted)
    config = setting.config
    torch.manual_seed(0)
    model = HTT(config.model, setting.info).to(setting.device).train()
    optimizer = optim.optimizer(config.optim, model.parameters())
    for batch in batches:
        train_step(model, batch, optimizer, config, group=setting.group)
    return {name: value.detach().cpu().clone() for name, value in model.named_parameters()}


def attention(setting: Setting) -> Iterator[str]:
    """Time the attention of both blocks, forward and backward, with each kernel that takes their masks or none."""
    kernels = {"chosen": None, "cuDNN": SDPBackend.CUDNN_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
               "flash": SDPBackend.FLASH_ATTENTION, "plain": SDPBackend.MATH}  # fmt: skip
    config = setting.config.model
    yield "Attention of a layer, ms forward and backward. Flash attention on a GPU takes no masks."
    yield from ("", f"| block | type | mask | {' | '.join(kernels)} |", f"|---|---|---|{'---|' * len(kernels)}")
    for name, rows, tokens in (("P", 6, config.pose.window), ("A", 2, config.action.length + 1)):
        for dtype in (torch.float32, torch.bfloat16):
            shape = (3, rows, config.pose.heads, tokens, config.width // config.pose.heads)
            parts = torch.randn(shape, dtype=dtype, device=setting.device).requires_grad_()
            counts = torch.linspace(1, tokens, rows, device=setting.device)
            mask = (torch.arange(tokens, device=setting.device) < counts[:, None])[:, None, None]
            for masked in (True, False):
                cells = [_attention_ms(setting, parts, mask if masked else None, each) for each in kernels.values()]
                yield f"| {name} | {str(dtype)[6:]} | {'yes' if masked else 'no'} | {' | '.join(cells)} |"


def _attention_ms(setting: Setting, parts: Tensor, mask: Tensor | None, kernel: SDPBackend | None) -> str:
    """Return the time of attention, ms, or "-" if the kernel does not take these arguments."""

    def once() -> None:
        for _ in range(20):
            F.scaled_dot_product_attention(*parts, attn_mask=mask).sum().backward()

    try:
        with sdpa_kernel(kernel) if kernel else contextlib.nullcontext():
            once()
            return f"{1000 / 20 * min(setting.timed(once) for _ in range(3)):.3f}"
    except RuntimeError:
        return "-"


def loader(setting: Setting) -> Iterator[str]:
    """Time loading, augmentation and copying alone against the step in bf16: the GPU's idle share."""
    width, height = setting.info.width, setting.info.height
    clips = make_clips(setting.scratch / "frames", width, height, 4 if setting.tiny else 12)
    config = override(setting.config, {"train.windows_per_epoch": 8 if setting.tiny else 40, "train.batch_size": 2})
    batches = setting.batches(3)
    step_s = _steps_of(setting, batches, "bf16")[0]
    frame_s = step_s / sum(len(batch.frames) for batch in batches)
    yield (
        f"Frames/s of the loader with augmentation and copy, and of the step in bf16, with {torch.get_num_threads()} "
        "threads. If the loader is slower, the GPU waits."
    )
    yield from ("", "| loader processes | loader, frames/s | step, frames/s | GPU idle |", "|---|---|---|---|")
    for processes in (0, 2 if setting.tiny else 8):
        loading = TrainingLoader(clips, override(config, {"runtime.loader_workers": processes}))
        frames = 0
        for number, batch in enumerate(loading.epoch(0)):
            if number == 2:  # after the start of the processes
                setting.wait()
                began, frames = time.perf_counter(), 0
            layout = Layout.of(batch.valid, config.model.pose.window).to(setting.device)
            random = step_generator(0, number, setting.group)
            seen = augment(batch.to(setting.device), config.data.augment, random, layout)
            frames += len(seen.frames)
        setting.wait()
        loaded_s = (time.perf_counter() - began) / frames
        idle = max(0.0, 1 - frame_s / loaded_s)
        yield f"| {processes} | {1 / loaded_s:,.0f} | {1 / frame_s:,.0f} | {100 * idle:.0f} % |"


def encoding(setting: Setting) -> Iterator[str]:
    """Time the encoding of features by ResNet-18 and by a ViT-S with random weights."""
    from transformers import ViTConfig, ViTModel

    folder, size = setting.scratch / "vit", 32 if setting.tiny else 224
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    full = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
    ViTModel(ViTConfig(image_size=size, patch_size=16, **(shape if setting.tiny else full))).save_pretrained(folder)
    name = "resnet_tiny" if setting.tiny else "resnet18"
    images = torch.randint(0, 256, (64, 3, setting.info.height, setting.info.width), dtype=torch.uint8)
    yield from ("| encoder, fp32, 64 images at once | frames/s |", "|---|---|")
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
        yield f"| {label} | {rate:,.0f} |"


def prediction(setting: Setting) -> Iterator[str]:
    """Time the prediction of whole windows, and of a stream of frames."""
    info, config = setting.info, setting.config
    matrix = np.array([[info.width, 0, info.width / 2], [0, info.width, info.height / 2], [0, 0, 1]], np.float32)
    yield "Frames/s of `Predictor`, on clips and as a stream, which has hands after every frame (aim: 200 frames/s)."
    yield from ("", "| precision | clip of windows | stream |", "|---|---|---|")
    for name in ("fp32", "bf16"):
        predictor = Predictor(HTT(config.model, info), config, setting.device, name)
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (predictor.chunk, info.height, info.width, 3), np.uint8)
        streamed = images[: 16 if setting.tiny else 64]

        def whole(predictor: Predictor = predictor, images: np.ndarray = images) -> None:
            predictor(images, matrix)

        def stream(predictor: Predictor = predictor, images: np.ndarray = streamed) -> None:
            takes = predictor.stream(matrix)
            for frame in images:
                takes(frame)

        rates = []
        for work, count in ((whole, len(images)), (stream, len(streamed))):
            work()
            rates.append(count / statistics.median(setting.timed(work) for _ in range(3)))
        yield f"| {name} | {rates[0]:,.0f} | {rates[1]:,.0f} |"
