"""Device and size of the measurements."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from htt.batch import Batch
from htt.config import Config
from htt.group import Group
from htt.info import DataInfo
from htt.testing import random_batch, tiny_config
from padding import h2o_lengths

DEVICE = "device"
"""File in the scratch folder that describes the device."""


@dataclass(frozen=True)
class Setting:
    """Device and size of the measurements."""

    device: torch.device
    tiny: bool
    scratch: Path
    """Folder of the whole benchmark."""
    limit_s: float
    """Time limit of the part."""

    @property
    def gpu(self) -> bool:
        """True on a GPU."""
        return self.device.type == "cuda"

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

    def describe(self) -> None:
        """Write the name of the device."""
        name = torch.cuda.get_device_name(self.device) if self.gpu else "no GPU"
        (self.scratch / DEVICE).write_text(f"{name}, CUDA {torch.version.cuda}")

    def batches(self, count: int) -> list[Batch]:
        """Return batches of two windows, on the device, with lengths from all of H2O's training windows."""
        lengths = np.minimum(h2o_lengths(Config()), self.config.model.action.length)
        chosen = [round(part.mean()) for part in np.array_split(lengths, 2 * count)]
        pairs = zip(chosen[:count], reversed(chosen[count:]), strict=True)
        return [random_batch(self.info, pair, seed=seed).to(self.device) for seed, pair in enumerate(pairs)]

    def wait(self) -> None:
        """Wait for the device."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def timed(self, work: Callable[[], object]) -> float:
        """Return the duration of some work on the device, s."""
        self.wait()
        began = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - began


def last_line(error: Exception) -> str:
    """Return the type and the last line of an error, for a cell of a table."""
    text = (str(error).strip().splitlines() or [""])[-1]
    return f"{type(error).__name__}: {text[:300]}".replace("|", "/")
