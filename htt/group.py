"""Group of the workers of one training: rank, size and sums.

With one worker, every function is the identity. With several workers they use ``torch.distributed`` (nccl with
whole GPUs, else gloo), which the caller has started. Nothing here depends on the launcher.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn

from htt.neighbours import Neighbours

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """One worker and its connection to all workers of a training."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    neighbours: Neighbours | None = None
    """Trainings of this machine that wait while one measures, or None if this training takes no part."""

    def between_steps(self) -> None:
        """Wait while another training of this machine measures."""
        if self.neighbours:
            self.neighbours.between_steps(self._finish)

    def _finish(self) -> None:
        """Wait for the work that is queued on the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def first(self) -> bool:
        """True on the worker that writes the files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a small tensor over all workers."""
        if self.size == 1:
            return values
        total = values.detach().clone().to(self.device)
        torch.distributed.all_reduce(total)
        return total.to(values.device)

    def gather(self, value: T) -> list[T]:
        """Return the values of all workers, in the order of ranks, on every worker."""
        if self.size == 1:
            return [value]
        everybody: list[T | None] = [None] * self.size
        torch.distributed.all_gather_object(everybody, value)
        return everybody  # type: ignore[return-value]

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return the model with its gradients averaged over the workers."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        normalising = (each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm))
        live = any(each.training for each in normalising)  # frozen statistics stay equal
        kind = nn.parallel.DistributedDataParallel
        known = inspect.signature(kind).parameters
        buffers: dict[str, Any] = {
            "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": live
        }
        return kind(model, device_ids=devices, gradient_as_bucket_view=True, **buffers)


def best_device() -> torch.device:
    """Return the GPU this process may use, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
