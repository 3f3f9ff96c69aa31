"""The order of windows: a function of seed, epoch and nothing else, so that it can be entered anywhere.

An epoch of training is a list of steps; a step is the windows of one global batch. Workers split every step between
them, so that any number of workers trains on the same global batches as one. Entering at a cursor, which counts
windows, skips exactly what was trained on before it, whatever the batches were.
"""

from __future__ import annotations

import numpy as np

from htt.config import TrainConfig
from htt.errors import ConfigError

Steps = list[np.ndarray]
"""For each step, the indices of its windows."""


def times(train: TrainConfig, workers: int) -> int:
    """How often batch size and learning rate are taken, see ``train.scaling``."""
    return workers if train.scaling == "linear" else 1


def steps_per_epoch(windows: int, batch_size: int, limit: int | None = None) -> int:
    """How many steps an epoch has: all of ``batch_size`` windows, or one smaller step if there are not that many."""
    count = min(windows, limit or windows)
    return max(count // batch_size, min(count, 1))


def order(
    windows: int,
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    limit: int | None = None,
    start: int = 0,
) -> Steps:
    """The steps of an epoch of training, as one worker sees them.

    Windows are drawn without replacement, anew each epoch. What does not fill a last step waits.

    Args:
        windows: how many there are.
        seed: of the training.
        epoch: from 0.
        batch_size: windows of a step, over all workers.
        rank: this worker.
        world: how many workers there are.
        limit: windows of an epoch; None: all.
        start: windows to skip, which the steps before had.

    Raises:
        ConfigError: a step has fewer windows than there are workers.
    """
    check_world(windows, batch_size, world, limit)
    drawn = np.random.default_rng([seed, epoch]).permutation(windows)[: limit or windows]
    last = max(len(drawn) - batch_size, 0)
    return [drawn[first : first + batch_size][rank::world] for first in range(start, last + 1, batch_size)]


def check_world(windows: int, batch_size: int, world: int, limit: int | None = None) -> None:
    """Every worker must have a window in every step.

    Raises:
        ConfigError: there are more workers than windows in a step.
    """
    smallest = min(windows, limit or windows, batch_size)
    if smallest < world:
        raise ConfigError(
            f"A step must have a window for each worker; it has {smallest} (train.batch_size {batch_size}, "
            f"windows of an epoch {min(windows, limit or windows)}) and there are {world} workers. "
            f"Raise train.batch_size or use at most {smallest} workers."
        )


def share(batches: int, rank: int = 0, world: int = 1) -> np.ndarray:
    """The batches one worker evaluates: contiguous shares that hold each batch exactly once, as even as can be."""
    return np.array_split(np.arange(batches), world)[rank]


def groups(sizes: np.ndarray, most: int, budget: int) -> Steps:
    """Cut a list of windows into batches, in order.

    Args:
        sizes: [w] frames of each window.
        most: windows of a batch at most.
        budget: frames of a batch at most; a single window may have more.
    """
    batches: list[list[int]] = []
    frames = 0
    for window, size in enumerate(sizes.tolist()):
        if not batches or len(batches[-1]) == most or frames + size > budget:
            batches.append([])
            frames = 0
        batches[-1].append(window)
        frames += size
    return [np.array(batch) for batch in batches]
