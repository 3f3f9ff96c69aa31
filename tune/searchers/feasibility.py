"""Check of the constraints that are known before training: bounds on the number of trainable parameters."""

from __future__ import annotations

from collections.abc import Sequence

from htt.config import Config
from htt.data.prepare import facts
from htt.errors import CheckpointError, ConfigError
from tune.experiments.constraints import Constraint, broken

SIZE = "parameters"


class SizeCheck:
    """Check of a model's size; the model is built on torch's meta device, without memory."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        self._constraints = [each for each in constraints if each.metric == SIZE]
        self._sizes: dict[str, int | None] = {}

    def violation(self, config: Config) -> tuple[int, str] | None:
        """Return the model's size and the constraints that it violates, or None if it violates none."""
        size = self._size(config) if self._constraints else None
        violation = None if size is None else broken(self._constraints, {SIZE: size})
        return None if size is None or violation is None else (size, violation)

    def _size(self, config: Config) -> int | None:
        """Return the number of trainable parameters, or None if the model cannot be built (training reports why)."""
        key = config.model.model_dump_json()
        if key not in self._sizes:
            from htt.model import size  # imported here: only constraints on the size need torch

            try:
                self._sizes[key] = size.parameters(config.model, facts(config))
            except (ConfigError, CheckpointError, RuntimeError, ValueError):
                self._sizes[key] = None
        return self._sizes[key]
