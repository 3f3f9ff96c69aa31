"""Order of windows as a function of seed and epoch only, so that training can resume at any step.

An epoch of training is a list of steps; a step is the windows of one global batch. Workers split every step between
them, so any number of workers trains on the same global batches as one. The cursor for resuming counts windows, so it
skips exactly the windows that were trained on, for any batch size.
"""

from __future__ import annotations

import numpy as np

from htt.config import TrainConfig
from htt.errors import ConfigError
from htt.text import plural

Steps = list[np.ndarray]
"""Indices of the windows of each step."""


def times(train: TrainConfig, workers: int) -> int:
    """Return the factor by which batch size and learning rate are scaled; see ``train.scaling``."""
    return workers if train.scaling == "linear" else 1


def steps_per_epoch(windows: int, batch_size: int, limit: int | None = None) -> int:
    """Return the number of steps in an epoch: full steps, or one smaller step if there is no full one."""
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
    frame_counts: np.ndarray | None = None,
    labelled: np.ndarray | None = None,
    others: int = 0,
) -> Steps:
    """Return the steps of an epoch of training for one worker.

    Windows are drawn without replacement, in a new order each epoch. Windows that do not fill a last step are left out.
    If only some clips are labelled, their windows are drawn as often as an epoch with all labels has windows, in a new
    order each time, and come first in each step.

    Args:
        windows: number of windows.
        seed: seed of the training.
        epoch: index of the epoch, from 0.
        batch_size: windows in a step, over all workers.
        rank: index of this worker.
        world: number of workers.
        limit: windows in an epoch, or None for all.
        start: number of windows to skip, those of earlier steps.
        frame_counts: [windows] number of frames of each, by which several workers get nearly equal work, or None to
            deal the windows in turn.
        labelled: [windows] bool, True for windows of labelled clips, or None if all clips are.
        others: windows of other clips in a step for each labelled one; ``batch_size`` and ``start`` count both.

    Raises:
        ConfigError: a step has fewer windows than there are workers.
    """
    check_world(windows, batch_size, world, limit)
    if labelled is None:
        drawn = np.random.default_rng([seed, epoch]).permutation(windows)[: limit or windows]
    else:
        drawn = _mixed(labelled, others, min(windows, limit or windows), [seed, epoch])
    last = max(len(drawn) - batch_size, 0)
    steps = [drawn[first : first + batch_size] for first in range(start, last + 1, batch_size)]
    if labelled is not None:
        kinds = [[step[labelled[step]], step[~labelled[step]]] for step in steps]
        return [np.concatenate([dealt(each, rank, world, frame_counts) for each in parts]) for parts in kinds]
    return [dealt(step, rank, world, frame_counts) for step in steps] if world > 1 else steps


def _mixed(labelled: np.ndarray, others: int, count: int, seed: list[int]) -> np.ndarray:
    """Return ``count`` labelled windows, each followed by ``others`` windows of other clips."""
    rows = [_repeated(np.flatnonzero(labelled), count, seed)]
    if others:
        rows.append(_repeated(np.flatnonzero(~labelled), count * others, [*seed, 3]).reshape(count, others))
    mixed: np.ndarray = np.column_stack(rows).reshape(-1)
    return mixed


def _repeated(windows: np.ndarray, count: int, seed: list[int]) -> np.ndarray:
    """Return ``count`` of the windows: all of them in a drawn order, then in another one, and so on."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.permutation(windows) for _ in range(-(-count // len(windows)))])[:count]


def dealt(step: np.ndarray, rank: int, world: int, frame_counts: np.ndarray | None = None) -> np.ndarray:
    """Return one worker's windows of a step: the longest are dealt first, in rounds that alternate in direction."""
    if frame_counts is None:
        return step[rank::world]
    longest_first = step[np.argsort(-frame_counts[step], kind="stable")]
    places = [start + (world - 1 - rank if start // world % 2 else rank) for start in range(0, len(step), world)]
    return longest_first[[place for place in places if place < len(step)]]


def check_world(windows: int, batch_size: int, world: int, limit: int | None = None) -> None:
    """Check that every worker has a window in every step.

    Raises:
        ConfigError: there are more workers than windows in a step.
    """
    smallest = min(windows, limit or windows, batch_size)
    if smallest < world:
        raise ConfigError(
            f"Every worker needs a window in every step: there are {world} workers, but only {smallest} windows "
            f"(train.batch_size {batch_size}, windows of an epoch {min(windows, limit or windows)}). "
            f"Raise train.batch_size or use at most {plural(smallest, 'worker')}."
        )


def share(batches: int, rank: int = 0, world: int = 1) -> np.ndarray:
    """Return the indices of the batches one worker evaluates: contiguous, disjoint shares of nearly equal size."""
    return np.array_split(np.arange(batches), world)[rank]


def groups(sizes: np.ndarray, most: int, budget: int) -> Steps:
    """Group windows into batches, in order.

    Args:
        sizes: [w] number of frames of each window.
        most: largest number of windows in a batch.
        budget: largest number of frames in a batch; a single window may have more.
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
