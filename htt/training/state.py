"""Optimiser state as named tensors and plain numbers.

Random states are not stored: every step seeds torch by (seed, step, worker), and nothing else draws random numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from htt.errors import CheckpointError


def optimizer_parts(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the optimiser's state as named tensors, and its plain rest: groups, and entries that are no tensors."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            (tensors if isinstance(value, Tensor) else plain)[f"optimizer.{index}.{name}"] = value
    return tensors, {"param_groups": state["param_groups"], "state": plain}


def optimizer_state(
    tensors: Mapping[str, Tensor], numbers: Mapping[str, Any], optimizer: torch.optim.Optimizer, folder: Path
) -> dict[str, Any]:
    """Return the state that ``optimizer_parts`` split; tensors shaped as their parameter get its memory layout."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    stored = sum(len(group["params"]) for group in numbers["param_groups"])
    if stored != len(parameters):
        raise CheckpointError(
            f"The optimiser state in {folder} does not fit: it has {stored} parameters, the optimiser has "
            f"{len(parameters)}. Build the optimiser as in the training that is resumed."
        )
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **numbers["state"]}.items():
        kind, _, rest = key.partition(".")
        if kind == "optimizer":
            index, _, name = rest.partition(".")
            state.setdefault(int(index), {})[name] = _laid_out(value, parameters[int(index)])
    return {"state": state, "param_groups": numbers["param_groups"]}


def _laid_out(value: Any, parameter: Tensor) -> Any:
    """Return the same numbers with their parameter's strides, so that resumed arithmetic is equal to the last bit."""
    if isinstance(value, Tensor) and value.shape == parameter.shape:
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return value
