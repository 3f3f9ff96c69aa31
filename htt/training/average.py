"""Moving average of a model's weights, for ``train.ema``: smoother than the weights of any one step.

Source: Polyak and Juditsky 1992; the smaller decay of the first steps as in TensorFlow's ExponentialMovingAverage.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """Moving average of the weights and the statistics of a model, kept beside the model."""

    model: nn.Module
    """The averaged model, in eval mode and without gradients."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._values = self.model.state_dict()  # the tensors of that model

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after a step, counted from 0 over the whole training."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        for name, value in self._model.state_dict().items():
            average = self._values[name]
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    def state(self) -> dict[str, Tensor]:
        """Return the averages by the names of the model."""
        return dict(self._values)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set the averages that ``state`` returned."""
        for name, value in self._values.items():
            value.copy_(state[name])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averages for the ``with`` block, then its own weights again, to the last bit."""
        own = {name: value.detach().clone() for name, value in self._model.state_dict().items()}
        self.apply()
        try:
            yield
        finally:
            _copy(self._model, own)

    def apply(self) -> None:
        """Give the model the averages."""
        _copy(self._model, self._values)


@torch.no_grad()
def _copy(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    for name, value in model.state_dict().items():
        value.copy_(values[name])
