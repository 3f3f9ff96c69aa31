"""What needs no training: a configuration that was trained before, and one that cannot keep the constraints.

A configuration is the same where its fingerprint is; a training is deterministic, so its result is too. Results are
taken from this run and from the runs a search was told to begin with, of complete trials alone: what the scheduler
stopped might today go on, and what is still under way has none to give. How many numbers a model learns is known before
it is trained (it is built on torch's meta device), so a model that is too large is never trained.
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
    """The finished trials a search can take results from, by fingerprint."""

    def __init__(
        self, base: Config, constraints: Sequence[Constraint], metrics: Sequence[str], trials: Iterable[Trial]
    ) -> None:
        """Take up what is known.

        Args:
            base: what trials start from.
            constraints: that a trial must keep.
            metrics: without which a result is of no use: the objectives.
            trials: those of earlier runs and of this one.
        """
        self.base, self.metrics, self.constraints = base, metrics, constraints
        self.of_size = [each for each in constraints if each.metric == SIZE]
        self._data = data_key(base)
        self._trials: dict[str, Trial] = {}
        self._sizes: dict[str, int | None] = {}
        for trial in trials:
            self.learn(trial)

    def learn(self, trial: Trial) -> None:
        """Take up a trial that ended."""
        needed = {*self.metrics, *(each.metric for each in self.constraints)}
        whole = all(math.isfinite(trial.metrics.get(name, math.nan)) for name in needed)
        if trial.state == "complete" and whole and self._same_data(trial):
            self._trials.setdefault(trial.fingerprint, trial)

    def _same_data(self, trial: Trial) -> bool:
        """True where a trial was trained on what its configuration names now."""
        searched = any(path.startswith("data.") for path in trial.values)
        now = data_key(override(self.base, trial.values)) if searched else self._data
        return trial.data in (None, now)

    def answer(self, values: Mapping[str, Value], run: str) -> Trial | None:
        """A row for a sample that needs no training, without number and time; none: it must be trained.

        Args:
            values: the sample.
            run: this run's name.
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
        """How a trial breaks the constraints."""
        return broken(self.constraints, trial.metrics)

    def _size(self, config: Config) -> int | None:
        """Numbers the model learns; none where it cannot be built, which its training will say."""
        key = config.model.model_dump_json()
        if key not in self._sizes:
            from htt.model import size  # torch, where a constraint needs it

            try:
                self._sizes[key] = size.parameters(config.model, facts(config))
            except (ConfigError, CheckpointError, RuntimeError, ValueError):
                self._sizes[key] = None
        return self._sizes[key]
