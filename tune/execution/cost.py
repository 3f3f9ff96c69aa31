"""Estimate of a training's duration from a few of its steps, timed in this process.

The timed code is the training's own, on its own data. The first step and the first batch of the validation clips are
slower than the rest and left out; then as many as requested are timed. The estimate does not include the start of a
process, checkpoints, the load of other trials on the same machine, or epochs that differ from the first steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from statistics import median
from time import monotonic
from typing import TYPE_CHECKING

from htt.config import Config
from htt.errors import ConfigError

if TYPE_CHECKING:
    from htt.batch import Batch
    from htt.data.loading.loader import EpochLoader
    from htt.data.loading.splits import Splits
    from htt.group import Group
    from htt.model.htt import HTT


def check_steps(steps: int | None) -> None:
    """Raise a ``ConfigError`` if the number of steps is below 1."""
    if steps is not None and steps < 1:
        raise ConfigError(f"--time-steps must be 1 or more; got {steps}.")


def training_seconds(config: Config, steps: int, threads: int = 1) -> float:
    """Return the estimated duration of training this configuration on this machine, s.

    Args:
        config: the complete configuration; its data must be prepared.
        steps: number of training steps and of validation batches to time; fewer if the data have fewer.
        threads: number of threads of this process while it is timed, as many as a worker has.

    Raises:
        DataError: the data are missing.
    """
    import torch  # imported here: a plan without --time-steps needs torch only to build models on the meta device

    from htt.group import Group, best_device
    from htt.model.htt import HTT
    from htt.training.tasks import open_splits

    splits, before = open_splits(config), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        group = Group(device=best_device())
        torch.manual_seed(config.train.seed)
        model = HTT(config.model, splits.info).to(group.device)
        epoch_s = _epoch_seconds(model, config, splits, group, steps)
        epoch_s += _validation_seconds(model, config, splits, group, steps)
    finally:
        torch.set_num_threads(before)
    return config.train.epochs * epoch_s


class _First:
    """The first steps of a training loader, with the time at which each was requested."""

    def __init__(self, loader: EpochLoader, count: int) -> None:
        self.step_windows, self.steps_per_epoch = loader.step_windows, loader.steps_per_epoch
        self.times: list[float] = []
        self._loader, self._count = loader, count

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the first batches of an epoch, in the order of the full loader."""
        self.times.append(monotonic())
        for batch in islice(self._loader.epoch(epoch, start), self._count):
            yield batch
            self.times.append(monotonic())


class _Enough(Exception):  # noqa: N818 - not an error
    """Signal that enough batches were evaluated."""


def _epoch_seconds(model: HTT, config: Config, splits: Splits, group: Group, steps: int) -> float:
    from htt.data.loading.loader import TrainingLoader
    from htt.training import loop, optim
    from htt.training.loading import open_teacher

    loader = _First(TrainingLoader(splits.train, config), steps + 1)
    optimizer, teacher = optim.optimizer(config.optim, model.parameters()), open_teacher(config, model, group.device)
    average = loop.open_average(model, config)
    loop.train_epoch(model, loader, optimizer, config, 0, group=group, teacher=teacher, average=average)
    return loader.steps_per_epoch * _each(loader.times)


def _validation_seconds(model: HTT, config: Config, splits: Splits, group: Group, steps: int) -> float:
    from htt.data.loading.loader import EvaluationLoader
    from htt.training import loop

    if not splits.val:
        return 0.0
    times = [monotonic()]

    def on_batch(*_: object) -> None:
        times.append(monotonic())
        if len(times) > steps + 1:
            raise _Enough

    with contextlib.suppress(_Enough):
        loop.evaluate(model, splits.val, config, group=group, on_batch=on_batch)
    return len(EvaluationLoader(splits.val, config)) * _each(times)


def _each(times: Sequence[float]) -> float:
    """Return the median duration of one step, s, without the first if there are more."""
    spans = [after - before for before, after in pairwise(times)]
    return median(spans[1:] or spans)
