"""Check that the loss terms of every step are finite."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from htt.errors import NonFiniteLossError


def check(terms: Sequence[str], broken: Tensor, epoch: int = 0, step: int = 0) -> None:
    """Raise ``NonFiniteLossError`` if a flag of the terms [terms] is not 0."""
    if broken.any():
        raise NonFiniteLossError(epoch, step, [name for name, wrong in zip(terms, broken, strict=True) if wrong])


class FiniteCheck:
    """Check of the steps of an epoch.

    On a GPU a step is checked during the next one, so that the CPU prepares a step while the GPU computes the one
    before. The error names the step that failed. ``finish`` must be called before weights are saved.
    """

    def __init__(self, device: torch.device) -> None:
        self._steps_late = int(device.type == "cuda")
        self._waiting: deque[tuple[int, int, Sequence[str], Tensor, torch.cuda.Event | None]] = deque()

    def add(self, epoch: int, step: int, terms: Sequence[str], broken: Tensor) -> None:
        """Add the flags of a step, and check those that are due; every worker has the same flags."""
        copied = None
        if broken.is_cuda:
            broken = torch.empty_like(broken, device="cpu", pin_memory=True).copy_(broken, non_blocking=True)
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._waiting.append((epoch, step, terms, broken, copied))
        self._check(self._steps_late)

    def finish(self) -> None:
        """Check all steps."""
        self._check(0)

    def _check(self, left: int) -> None:
        while len(self._waiting) > left:
            epoch, step, terms, broken, copied = self._waiting.popleft()
            if copied:
                copied.synchronize()
            check(terms, broken, epoch, step)
