"""How long a training will take, guessed from a few of its steps in this process: a look ahead, no measurement.

What is timed is the training's own code on its own data: a first step and a first batch of the validation clips, which
are slower than the rest and left out, and after them as many as are asked for. Not in it are the start of a process,
checkpoints, a machine that other trainings share, and epochs that differ from the first steps.
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
    from htt.data.loading.loader import Epochs
    from htt.data.loading.splits import Splits
    from htt.group import Group
    from htt.model.htt import HTT


def check_steps(steps: int | None) -> None:
    """Raise a ``ConfigError`` for a number of steps that tells nothing."""
    if steps is not None and steps < 1:
        raise ConfigError(f"--time-steps must be 1 or more; got {steps}.")


def training_seconds(config: Config, steps: int, threads: int = 1) -> float:
    """About how long a training of this configuration takes on this machine, s.

    Args:
        config: the training, completely; its data are made ready.
        steps: steps and batches of validation clips to time; fewer where there are fewer.
        threads: of this process while it is timed, as many as a worker will have.

    Raises:
        DataError: the data are not there.
    """
    import torch  # here: a plan without --time-steps builds models on the meta device alone

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
    """The first steps of a training's loader, with the time at which each was asked for."""

    def __init__(self, loader: Epochs, count: int) -> None:
        self.step_windows, self.steps_per_epoch = loader.step_windows, loader.steps_per_epoch
        self.times: list[float] = []
        self._loader, self._count = loader, count

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, as the whole loader has them."""
        self.times.append(monotonic())
        for batch in islice(self._loader.epoch(epoch, start), self._count):
            yield batch
            self.times.append(monotonic())


class _Enough(Exception):  # noqa: N818 - no error
    """So many batches were evaluated."""


def _epoch_seconds(model: HTT, config: Config, splits: Splits, group: Group, steps: int) -> float:
    from htt.data.loading.loader import training_loader
    from htt.training import loop, optim

    loader = _First(training_loader(splits.train, config), steps + 1)
    loop.train_epoch(model, loader, optim.optimizer(config.optim, model.parameters()), config, 0, group=group)
    return loader.steps_per_epoch * _each(loader.times)


def _validation_seconds(model: HTT, config: Config, splits: Splits, group: Group, steps: int) -> float:
    from htt.data.loading.loader import evaluation_loader
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
    return len(evaluation_loader(splits.val, config)) * _each(times)


def _each(times: Sequence[float]) -> float:
    """How long one takes after the first, where there are more."""
    spans = [after - before for before, after in pairwise(times)]
    return median(spans[1:] or spans)
