"""Arithmetic and memory of the device that a model runs on.

Torch keeps these settings for the whole process, and one process may run many trainings, so each training sets them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

import torch

from htt.config import Config
from htt.errors import DeviceMemoryError

NO_MEMORY = ("CUDA error: out of memory", "STATUS_ALLOC_FAILED", "DefaultCPUAllocator")
"""Parts of the messages of exhausted memory that torch raises as a plain ``RuntimeError``."""


def use_tf32(allowed: bool) -> None:
    """Allow or forbid TF32 (10 bits of mantissa instead of 23) in matrix products and convolutions on a GPU.

    By default torch forbids it in matrix products and allows it in convolutions.
    """
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


@contextlib.contextmanager
def exact_fp32() -> Iterator[None]:
    """Forbid TF32 within the ``with`` block."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    use_tf32(False)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def prepare(device: torch.device, *, deterministic: bool) -> None:
    """Prepare this process for a training on a device; a CPU needs no preparation."""
    if device.type == "cuda":
        torch.cuda.init()  # type: ignore[no-untyped-call]  # else there is no peak to reset of a device with a number
        torch.cuda.reset_peak_memory_stats(device)  # an earlier training of this process may have used more
        use_deterministic(deterministic)


def use_deterministic(wanted: bool) -> None:
    """Choose algorithms of the GPU that give the same numbers in every run, or the fastest ones.

    The fused kernels of attention add up their gradients in an order that varies; the plain products do not.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by cuBLAS when it is first used
    torch.use_deterministic_algorithms(wanted)
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - a property of the module
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cuda.enable_flash_sdp(not wanted)
    torch.backends.cuda.enable_mem_efficient_sdp(not wanted)
    torch.backends.cuda.enable_cudnn_sdp(not wanted)


@contextlib.contextmanager
def memory_errors(config: Config, device: torch.device, windows: int = 0, frames: Sequence[int] = ()) -> Iterator[None]:
    """Convert errors of exhausted memory to ``DeviceMemoryError``.

    Args:
        config: configuration of the training.
        device: device of the model.
        windows: windows of the batch that is processed, or 0 for none.
        frames: shape of the batch's frames.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and not any(mark in str(error) for mark in NO_MEMORY):
            raise
        raise DeviceMemoryError(_sentence(config, device, windows, frames)) from error


def _sentence(config: Config, device: torch.device, windows: int, frames: Sequence[int]) -> str:
    held = "the model"
    if windows:
        size = f" of {frames[3]}x{frames[2]} px" if len(frames) == 4 else ""
        held = f"a batch of {windows} windows with {frames[0]} frames{size}"
    peak = ""
    if device.type == "cuda":
        used, there = torch.cuda.max_memory_allocated(device), torch.cuda.get_device_properties(device).total_memory
        peak = f" This process used up to {used / 1e9:.1f} of {there / 1e9:.1f} GB."
    return (
        f"Out of memory: {held} did not fit on the {device.type} (train.batch_size {config.train.batch_size}, "
        f"model.action.length {config.model.action.length}, model.pose.window {config.model.pose.window}, "
        f"train.precision {config.train.precision}).{peak} Lower train.batch_size or model.action.length, choose "
        "another precision, or give the training more of a device."
    )
