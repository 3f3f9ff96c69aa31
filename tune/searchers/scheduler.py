"""Early stopping of trials: ASHA over epochs, which can restore its rungs from the study, or none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from optuna.trial import FrozenTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from tune.searchers.generator import EPOCH
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import TUNE_ID, epochs_of


class Asha(ASHAScheduler):
    """ASHA scheduler whose rungs can be restored from the study."""

    def recall(self, trials: Iterable[FrozenTrial], sign: float) -> None:
        """Fill the rungs with the epochs stored in the study."""
        for frozen in trials:
            past = _Past(frozen.user_attrs.get(TUNE_ID, f"optuna-{frozen.number}"))
            for epoch, value in sorted(epochs_of(frozen).items()):
                self._brackets[0].on_result(cast("Any", past), epoch, sign * value)


class _Past:
    """Stand-in for a Tune trial, with the only attribute that a rung reads."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def scheduler(name: str, *, mode: str, epochs: int, searcher: Searcher | None = None) -> TrialScheduler:
    """Return an ASHA scheduler over epochs, or one without early stopping; Tune sets its metric, the first objective.

    Args:
        name: "asha" or "none".
        mode: "min" or "max".
        epochs: epochs of the longest trial that is not stopped; a shorter one ends by itself.
        searcher: searcher whose study holds the past epochs, or None for a new scheduler.
    """
    if name == "none" or epochs < 2:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    asha = Asha(EPOCH, max_t=epochs, grace_period=max(1, epochs // 4), reduction_factor=2, stop_last_trials=True)
    if searcher is not None:
        asha.recall(searcher.study.get_trials(deepcopy=False), 1.0 if mode == "max" else -1.0)
    return asha
