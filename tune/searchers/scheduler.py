"""Early stopping of trials: ASHA over epochs, which can restore its rungs from the study, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from optuna.trial import FrozenTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from htt.config import Value
from tune.searchers.generator import EPOCH
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import TUNE_ID, epochs_of


class Asha(ASHAScheduler):
    """ASHA scheduler whose rungs are restored from the study as soon as Tune has set its metric."""

    def __init__(self, past: Iterable[FrozenTrial], kept: Mapping[str, Value] | None = None, **settings: Any) -> None:
        super().__init__(EPOCH, stop_last_trials=True, **settings)
        self._past, self._kept = past, kept

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        """Set the metric, and report the epochs stored in the study."""
        is_set = bool(super().set_search_properties(metric, mode, **spec))
        for frozen in self._past:
            trial: Any = SimpleNamespace(trial_id=frozen.user_attrs.get(TUNE_ID, f"optuna-{frozen.number}"))
            self.on_trial_add(None, trial)  # type: ignore[arg-type]  # a rung reads the trial's id alone
            for epoch, value in sorted(epochs_of(frozen).items()):
                self.on_trial_result(None, trial, {EPOCH: epoch, str(metric): value})
            self.on_trial_remove(None, trial)  # type: ignore[arg-type]
        return is_set

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Return whether a trial goes on; the one with the values ``kept`` does, and counts in the rungs."""
        action = str(super().on_trial_result(tune_controller, trial, result))
        is_kept = self._kept is not None and getattr(trial, "config", {}).get("values") == self._kept
        return self.CONTINUE if is_kept else action


def scheduler(
    name: str, *, epochs: int, searcher: Searcher | None = None, kept: Mapping[str, Value] | None = None
) -> TrialScheduler:
    """Return an ASHA scheduler over epochs, or one without early stopping; Tune sets its metric, the first objective.

    Args:
        name: "asha" or "none".
        epochs: epochs of the longest trial that is not stopped; a shorter one ends by itself.
        searcher: searcher whose study holds the past epochs, or None for a new scheduler.
        kept: values of a trial that is never stopped early, or None.
    """
    if name == "none" or epochs < 2:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    past = searcher.study.get_trials(deepcopy=False) if searcher else ()
    return Asha(past, kept, max_t=epochs, grace_period=max(1, epochs // 4), reduction_factor=3)
