"""Trials that need no training: the configuration was trained before, or it cannot meet the constraints.

Configurations are equal if their fingerprints are equal. Training is deterministic, so equal configurations have equal
results. Results are taken from complete trials of this run and of the runs given by --warm-start. Pruned trials are not
reused, because today's scheduler might not stop them. The number of trainable parameters is known before training (the
model is built on torch's meta device), so a model that is too large is never trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from htt.config import Config, Value, override
from htt.data.location import data_key
from htt.data.prepare import facts
from htt.errors import CheckpointError, ConfigError
from tune.experiments.constraints import Constraint, broken
from tune.results.run_folder import Trial

SIZE = "parameters"


class Known:
    """The finished trials whose results a search can reuse, by fingerprint."""

    def __init__(
        self, base: Config, constraints: Sequence[Constraint], metrics: Sequence[str], trials: Iterable[Trial]
    ) -> None:
        """Add the known trials.

        Args:
            base: configuration that trials start from.
            constraints: constraints that a trial must meet.
            metrics: metrics that a reusable result must have (the objectives).
            trials: trials of earlier runs and of this one.
        """
        self.base, self.metrics, self.constraints = base, metrics, constraints
        self.of_size = [each for each in constraints if each.metric == SIZE]
        self._data = data_key(base)
        self._trials: dict[str, Trial] = {}
        self._sizes: dict[str, int | None] = {}
        for trial in trials:
            self.learn(trial)

    def learn(self, trial: Trial) -> None:
        """Add a trial that ended, if its result can be reused."""
        needed = {*self.metrics, *(each.metric for each in self.constraints)}
        whole = all(math.isfinite(trial.metrics.get(name, math.nan)) for name in needed)
        if trial.state == "complete" and whole and self._same_data(trial):
            self._trials.setdefault(trial.fingerprint, trial)

    def _same_data(self, trial: Trial) -> bool:
        """Return True if the trial's data are those that its configuration names now, or are unknown."""
        searched = any(path.startswith("data.") for path in trial.values)
        now = data_key(override(self.base, trial.values)) if searched else self._data
        return trial.data in (None, now)

    def answer(self, values: Mapping[str, Value], run: str) -> Trial | None:
        """Return a row for a sample that needs no training, without number and time, or None if it must be trained.

        Args:
            values: the sample.
            run: name of this run.
        """
        config = override(self.base, values)
        found = self._trials.get(config.fingerprint())
        if found is not None:
            origin = found.taken_from or f"{run}/{found.id}"
            return replace(
                found, state="reused", seconds=0.0, values=values, taken_from=origin, breaks=self.breaks(found)
            )
        size = self._size(config) if self.of_size else None
        if size is None or (breaks := broken(self.of_size, {SIZE: size})) is None:
            return None
        return Trial(
            id="", number=0, fingerprint=config.fingerprint(), state="refused", epochs=0, seconds=0.0, finished_s=0.0,
            values=values, metrics={SIZE: float(size)}, best={SIZE: float(size)}, breaks=breaks, data=data_key(config),
        )  # fmt: skip

    def breaks(self, trial: Trial) -> str | None:
        """Return a description of the constraints that a trial violates, or None if it meets all."""
        return broken(self.constraints, trial.metrics)

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
