"""Cost of a model: its number of parameters, and the time and memory of one clip's prediction.

The clip is the validation clip of median length, cut into windows and batched as in an evaluation, with its images
decoded before the measurement. Parameters depend on the model alone. Memory is counted from the tensors, not by the
allocator, so neighbours and the machine do not matter; a GPU's kernels may need other temporary tensors than a CPU's.
The time depends on the device, and other trials of the machine wait during its measurement (``htt.neighbours``).
"""

from __future__ import annotations

import contextlib
import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from htt.batch import Batch
from htt.config import Config, override
from htt.data.loading.clips import Clips
from htt.data.loading.loader import EvaluationLoader
from htt.evaluation.metric_table import COSTS
from htt.group import Group
from htt.info import DataInfo

FEWEST, MOST, ENOUGH_S = 3, 9, 0.1
"""Number of timed predictions: at least, at most, and the total time, s, after which no further one starts."""

Autocast = Callable[[], contextlib.AbstractContextManager[object]]


def cost(model: nn.Module, clips: Clips, config: Config, *, group: Group, autocast: Autocast) -> dict[str, float]:
    """Return ``parameters``, ``latency_ms`` and ``memory_mb``: measured by the first worker, returned on all.

    The model is in eval mode afterwards.

    Args:
        model: model to measure, on the group's device.
        clips: validation clips, at least one.
        config: configuration that says how clips are cut and batched.
        group: this worker and the others.
        autocast: factory of the context of a forward pass.
    """
    found = {}
    if group.first:
        model.eval()
        batches = [batch.to(group.device) for batch in median_clip(clips, config)]
        with group.neighbours.waiting() if group.neighbours else contextlib.nullcontext():
            memory = memory_mb(model, batches, autocast)  # first, because it warms up
            latency = latency_ms(model, batches, autocast, group.device)
        found = {"parameters": float(parameters(model)), "latency_ms": latency, "memory_mb": memory}
    return group.gather(found)[0]


def known_cost(epochs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the cost that a resumed training measured before its interruption; empty if it measured none."""
    return {each.name: epochs[-1][each.name] for each in COSTS if epochs and each.name in epochs[-1]}


def parameters(model: nn.Module) -> int:
    """Return the number of learned values of a model."""
    return sum(each.numel() for each in model.parameters() if each.requires_grad)


@torch.inference_mode()
def latency_ms(model: nn.Module, batches: Sequence[Batch], autocast: Autocast, device: torch.device) -> float:
    """Return the median time of the predictions of all batches, ms."""
    taken: list[float] = []
    while len(taken) < FEWEST or (len(taken) < MOST and sum(taken) < ENOUGH_S):
        _wait_for(device)
        began = time.perf_counter()
        _predict(model, batches, autocast)
        _wait_for(device)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def memory_mb(model: nn.Module, batches: Sequence[Batch], autocast: Autocast) -> float:
    """Return the peak memory of tensors during the predictions, in 10^6 bytes; predictions are kept until the end."""
    there = [*model.parameters(), *model.buffers(), *(batch.frames for batch in batches)]
    with torch.no_grad(), _Alive(there) as alive:  # inference_mode would hide the parts of composed operations
        _predict(model, batches, autocast)
    return float(alive.most) / 1e6


def median_clip(clips: Clips, config: Config) -> list[Batch]:
    """Return the batches of the clip of median length, with images also if the clips are features."""
    order = np.argsort(clips.frame_counts, kind="stable")
    one = clips.only([int(order[(len(order) - 1) // 2])])
    batches = EvaluationLoader(one, override(config, {"runtime.loader_workers": 0}))
    return [replace(batch, frames=_images(batch, clips.info)) if clips.encoding else batch for batch in batches]


def _images(batch: Batch, info: DataInfo) -> Tensor:
    """Return images for a batch of features: the cost does not depend on what they show."""
    return torch.zeros(len(batch.frames), 3, info.height, info.width, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )


def _predict(model: nn.Module, batches: Sequence[Batch], autocast: Autocast) -> list[Any]:
    with autocast():
        return [model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth) for batch in batches]


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Torch dispatch mode that counts the bytes of all tensors alive while it is active."""

    def __init__(self, there: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()
        for tensor in there:
            self._see(tensor)

    def __torch_dispatch__(  # type: ignore[no-untyped-def]
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ):
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor):
                self._see(value)
        return made

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            size = storage.nbytes()
            weakref.finalize(storage, self._forget, size)
            self.now += size
            self.most = max(self.most, self.now)

    def _forget(self, size: int) -> None:
        self.now -= size
