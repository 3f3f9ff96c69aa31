"""Generator of trials for Tune, and the base class of its searchers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher, SearchGenerator

from htt.config import Config
from tune.experiments.candidate import Candidate

EPOCH = "epoch"
"""Key of a result that holds the number of epochs trained so far."""
ERROR_KIND = "error_kind"
"""Key of a result that holds the class name of the error that ended the trial."""
SPEC = (
    "checkpoint_config", "trial_name_creator", "trial_dirname_creator", "log_to_file", "export_formats", "max_failures",
    "storage",
)  # fmt: skip
"""Settings of ``ray.tune.Experiment.spec`` that a trial takes under the same name."""


class TrialSearcher(Searcher, ABC):
    """Tune searcher that names and numbers its trials; its state is in the files of the run, so Tune saves none."""

    used_up = False
    """True if no configuration is left to try."""

    @abstractmethod
    def next_name(self) -> str:
        """Return the name of the next trial, used for its folders and its run in TensorBoard."""

    @abstractmethod
    def number(self, trial_id: str) -> int:
        """Return the trial's number, from 1 in the order of suggestion, or 0 for an unknown trial."""

    @abstractmethod
    def keep_only(self, trials: Mapping[str, Mapping[str, Any]], ended: Mapping[str, Mapping[str, Any]]) -> None:
        """Reconcile the searcher's state with the trials of a restored run.

        Args:
            trials: {trial: its settings} of the trials that the run resumes.
            ended: {trial: last result} of the trials that ended, even if Tune or the study did not record it.
        """

    def close(self) -> None:
        """Mark every trial that is still running as ended."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Record the end of a trial; by default nothing depends on it."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing."""

    def restore_from_dir(self, checkpoint_dir: str) -> None:
        """Restore nothing."""


class TrialGenerator(SearchGenerator):
    """Generator of trials, which makes the candidate of each suggested trial.

    Unlike its parent, it names trials by the searcher, and a restored run can have more trials than before. A trial
    that needs no training is settled here and never reaches Tune.
    """

    def __init__(self, searcher: TrialSearcher, base: Config, *, concurrent: int, trials: int) -> None:
        super().__init__(ConcurrencyLimiter(searcher, max_concurrent=concurrent))
        self.base, self.trials, self.count = base, trials, 0
        self.trial_searcher: TrialSearcher = searcher
        self._limiter: Any = self.searcher
        self.settle: Callable[[str, Candidate], dict[str, Any] | None] = lambda *_: None
        """Callback: record a trial that needs no training and return its result, or None if it must be trained."""
        self.trials_running = False
        """True if trials are running, which must not wait while others are settled."""
        self._candidates: dict[str, Candidate] = {}

    def candidate(self, trial: Trial) -> Candidate:
        """Return the candidate of a trial, which is made anew for a trial that Tune restored."""
        if trial.trial_id not in self._candidates:
            self._candidates[trial.trial_id] = Candidate.of(self.base, trial.config["values"])
        return self._candidates[trial.trial_id]

    def forget(self, trial_id: str) -> None:
        """Drop the candidate of an ended trial."""
        self._candidates.pop(trial_id, None)

    def next_trial(self) -> Any:
        """Return the next trial that must be trained, or None if there is none now or none at all."""
        while (trial := super().next_trial()) is not None:  # type: ignore[no-untyped-call]
            result = self.settle(trial.trial_id, self.candidate(trial))
            if result is None:
                return trial
            self.forget(trial.trial_id)
            self.on_trial_complete(trial.trial_id, result)
            if self.trials_running:
                break
        return None

    def create_trial_if_possible(self, experiment_spec: dict[str, Any]) -> Trial | None:
        """Return a new trial of the searcher's next suggestion, or None if no trial may start or none is left."""
        if len(self._limiter.live_trials) >= self._limiter.max_concurrent:
            return None  # Tune asks many times for each trial that starts, and a name is looked for among all trials
        name = self.trial_searcher.next_name()
        settings = self._limiter.suggest(name)
        if settings == Searcher.FINISHED:
            self.set_finished()  # type: ignore[no-untyped-call]
            return None
        self.count += 1
        return Trial(
            experiment_spec["run"],
            trial_id=name,
            config={**experiment_spec["config"], **settings},
            experiment_tag=str(self.count),
            stopping_criterion=experiment_spec["stop"],
            placement_group_factory=experiment_spec["resources_per_trial"],
            **{each: experiment_spec[each] for each in SPEC},
        )

    def is_finished(self) -> bool:
        """Return True if no further trial may be requested."""
        return self.count >= self.trials or bool(super().is_finished())

    @property
    def used_up(self) -> bool:
        """True if no configuration is left to try."""
        return self.trial_searcher.used_up

    def get_state(self) -> dict[str, Any]:
        """Return the state that Tune saves."""
        return {**super().get_state(), "counter": self.count}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore the state of an earlier run, with the current number of trials and not finished."""
        super().set_state({**state, "counter": 0, "total_samples": self.trials, "finished": False})
        self.count = state["counter"]
