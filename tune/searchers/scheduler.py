"""Who stops trials early: ASHA over epochs, which a restored search is told the past of, or nobody."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from optuna.trial import FrozenTrial
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from tune.searchers.generator import EPOCH
from tune.searchers.optuna_searcher import Searcher
from tune.searchers.optuna_study import TUNE_ID, epochs_of


class Asha(ASHAScheduler):
    """Successive halving that a restored search can be told the past of."""

    def recall(self, trials: Iterable[FrozenTrial], sign: float) -> None:
        """Fill the rungs from the epochs the study knows."""
        for frozen in trials:
            past = _Past(frozen.user_attrs.get(TUNE_ID, f"optuna-{frozen.number}"))
            for epoch, value in sorted(epochs_of(frozen).items()):
                self._brackets[0].on_result(cast("Any", past), epoch, sign * value)


class _Past:
    """As much of a trial as a rung looks at."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def scheduler(name: str, *, mode: str, epochs: int, searcher: Searcher | None = None) -> TrialScheduler:
    """ASHA over epochs, or nobody; Tune tells it the metric: where there are several objectives, the first.

    Args:
        name: "asha" or "none".
        mode: "min" or "max".
        epochs: of the longest trial that nobody stops; a shorter one ends by itself.
        searcher: whose study knows the past.
    """
    if name == "none" or epochs < 2:
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    asha = Asha(EPOCH, max_t=epochs, grace_period=max(1, epochs // 4), reduction_factor=2, stop_last_trials=True)
    if searcher is not None:
        asha.recall(searcher.study.get_trials(deepcopy=False), 1.0 if mode == "max" else -1.0)
    return asha
