"""Trials from a list: every variant of a study with every seed, one seed after the other, each to its last epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import Searcher

from tune.experiments.study import Pair
from tune.results.run_folder import Trial as Row


class Listed(Searcher):
    """Hands out the trainings of a list that are not complete yet, in its order.

    Nothing of it is saved: what is done is in ``trials.parquet``, what is under way in Tune's own state. A training
    that failed before the run was resumed is handed out again.
    """

    def __init__(self, pairs: Sequence[Pair], written: Iterable[Row], *, metric: str, mode: str) -> None:
        """Look which are left.

        Args:
            pairs: all trainings.
            written: the trials that ended so far.
            metric: as Tune wants it.
            mode: "min" or "max".
        """
        super().__init__(metric, mode)
        ended = list(written)
        done = {trial.pair for trial in ended if trial.state == "complete"}
        self._number = {pair.key: pair.number for pair in pairs}
        self._of_trial = {trial.id: trial.pair for trial in ended if trial.pair is not None}
        self._failed = {trial.id for trial in ended if trial.state == "failed"}
        self._left = [pair for pair in pairs if pair.key not in done]

    def suggest(self, trial_id: str) -> Any:
        """The next training's part of a trial's Tune configuration; "FINISHED" after the last."""
        if not self._left:
            return str(Searcher.FINISHED)
        pair = self._left.pop(0)
        self._of_trial[trial_id] = pair.key
        return {"values": dict(pair.values), "variant": pair.variant, "seed": pair.seed}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing is learned from a trial."""

    def next_name(self) -> str:
        """Any name that no run has: studies take over one another's trainings with their names."""
        return str(Trial.generate_id())  # type: ignore[no-untyped-call]

    def number(self, trial_id: str) -> int:
        """The place in the list, from 1."""
        key = self._of_trial.get(trial_id)
        return self._number.get(key, 0) if key else 0

    def keep_only(
        self,
        trials: Mapping[str, Mapping[str, Any]],
        ended: Mapping[str, Mapping[str, Any]],  # noqa: ARG002 - written, and so known
    ) -> None:
        """Hand out nothing that the restored run goes on with."""
        under_way = set()
        for trial_id, settings in trials.items():
            key = (settings["variant"], settings["seed"])
            self._of_trial[trial_id] = key
            if trial_id not in self._failed:
                under_way.add(key)
        self._left = [pair for pair in self._left if pair.key not in under_way]

    def close(self) -> None:
        """Nothing is open."""

    def save(self, checkpoint_path: str) -> None:
        """Write next to nothing."""
        with open(checkpoint_path, "w", encoding="utf-8") as file:
            file.write("{}")

    def restore(self, checkpoint_path: str) -> None:
        """Read nothing."""
