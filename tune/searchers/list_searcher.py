"""Searcher over a list: each variant of a study with each seed, one seed after the other, without early stopping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ray.tune.experiment import Trial

from tune.experiments.study import Pair
from tune.results.run_folder import Trial as Row
from tune.searchers.generator import TrialSearcher


class ListSearcher(TrialSearcher):
    """Searcher that returns the pairs of a list that are not complete yet, in order.

    Complete trials are in ``trials.parquet``, running ones in Tune's own state. A pair whose trial failed before the
    run was resumed is returned again.
    """

    def __init__(self, pairs: Sequence[Pair], recorded: Iterable[Row], *, metric: str, mode: str) -> None:
        """Find the pairs that are left.

        Args:
            pairs: all pairs of variant and seed.
            recorded: the trials that have ended so far.
            metric: metric that Tune's base class requires.
            mode: "min" or "max".
        """
        super().__init__(metric, mode)
        ended = list(recorded)
        complete = {trial.pair for trial in ended if trial.state == "complete"}
        self._number = {pair.key: pair.number for pair in pairs}
        self._pair_of = {trial.id: trial.pair for trial in ended if trial.pair is not None}
        self._failed = {trial.id for trial in ended if trial.state == "failed"}
        self._left = [pair for pair in pairs if pair.key not in complete]

    def suggest(self, trial_id: str) -> Any:
        """Return the next pair as part of a trial's Tune configuration, or "FINISHED" after the last."""
        if not self._left:
            return self.FINISHED
        pair = self._left.pop(0)
        self._pair_of[trial_id] = pair.key
        return {"values": dict(pair.values), "variant": pair.variant, "seed": pair.seed}

    def next_name(self) -> str:
        """Return a random name, unique among all runs, because studies reuse one another's trials under their names."""
        return str(Trial.generate_id())  # type: ignore[no-untyped-call]

    def number(self, trial_id: str) -> int:
        """Return the position in the list, starting from 1, or 0 for an unknown trial."""
        key = self._pair_of.get(trial_id)
        return self._number.get(key, 0) if key else 0

    def keep_only(
        self,
        trials: Mapping[str, Mapping[str, Any]],
        ended: Mapping[str, Mapping[str, Any]],  # noqa: ARG002 - known from ``recorded``
    ) -> None:
        """Remove the pairs that the restored run resumes."""
        resumed = set()
        for trial_id, settings in trials.items():
            key = (settings["variant"], settings["seed"])
            self._pair_of[trial_id] = key
            if trial_id not in self._failed:
                resumed.add(key)
        self._left = [pair for pair in self._left if pair.key not in resumed]
