"""Definition of an experiment: the differences of searches and studies for ``tune/execution/runner.py``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ray.tune.schedulers import TrialScheduler

from htt.config import BackboneConfig, Config
from htt.data.location import data_key
from htt.evaluation import clip_table
from htt.evaluation.metric_table import METRICS
from htt.training.older import PREFIX
from tune.execution.trainable import train_name
from tune.experiments.constraints import Constraint
from tune.experiments.spec import SearchSpec, StudySpec
from tune.results import run_record
from tune.results.cache import TrialCache
from tune.results.run_folder import RunFolder
from tune.results.run_record import RunRecord
from tune.results.sync import CLIPS, Storage
from tune.searchers.generator import TrialSearcher

UNLIMITED = 1_000_000
"""Number of trials to request from Tune if only a time budget ends the search."""
STATE = "tune"
"""Folder of Tune's own state, below the run's storage."""


@dataclass(frozen=True, kw_only=True)
class Experiment(ABC):
    """A search or a study that has passed the checks of its spec."""

    spec: SearchSpec | StudySpec
    storage: Storage
    resume: bool
    metrics: Sequence[str] = ()
    """Metrics stored for every epoch, in addition to ``metric``."""
    ranks: bool = True
    """True if the best trial so far is of interest."""
    max_failures: int = 3
    """Number of trials (of a study: variants) that may fail before any succeeds; then the run stops."""
    time_budget_s: float | None = None

    @cached_property
    def folder(self) -> RunFolder:
        """Local folder of the run; its record is first read when the run is locked and fetched."""
        return RunFolder(self.storage.local)

    @cached_property
    def base(self) -> Config:
        """Configuration that trials start from."""
        return self.spec.config()

    @property
    def metric(self) -> str:
        """Metric that selects trials, or the first one that compares them."""
        return self.spec.metric

    @property
    @abstractmethod
    def trials(self) -> int | None:
        """Total number of trials, or None for as many as the time budget allows."""

    @property
    def needed(self) -> list[str]:
        """Metrics that every epoch of a trial must report."""
        return [self.metric]

    @property
    def named(self) -> list[str]:
        """All metrics that the experiment refers to; the data must support them."""
        return list(dict.fromkeys([*self.needed, *self.metrics]))

    @property
    def resume_command(self) -> str:
        """Command that resumes the run."""
        return f"python tune/{run_record.SCRIPTS[self.spec.KIND]}.py --resume {self.storage.local}"

    @property
    def mode(self) -> str:
        """Direction of the metric for Tune: "max" or "min"."""
        return "max" if METRICS[self.metric].higher_is_better else "min"

    @property
    def constraints(self) -> Sequence[Constraint]:
        """Constraints that a trial must meet."""
        return ()

    @property
    def data(self) -> Sequence[Config]:
        """One configuration for each data set that the trials need."""
        return [self.base]

    @property
    def data_keys(self) -> list[str]:
        """Key of each data set, as recorded in the run."""
        return list(dict.fromkeys(data_key(config) for config in self.data))

    @property
    @abstractmethod
    def backbones(self) -> Sequence[BackboneConfig]:
        """Image encoders that the trials build."""

    @property
    def limit(self) -> int:
        """Maximum number of trials to request from the searcher."""
        return self.trials or UNLIMITED

    @abstractmethod
    def announce(self, concurrent: int) -> str:
        """Return the message shown when the trials start."""

    @abstractmethod
    def write_record(self, incomplete: Sequence[str] = (), baselines: Mapping[str, float] | None = None) -> None:
        """Write the record of the run.

        Args:
            incomplete: message for each split of its data with missing clips.
            baselines: {metric: value reached without the images}, or None if the data sets differ or are not read.
        """

    def new_record(self, **fields: Any) -> RunRecord:
        """Return the record of a new run."""
        name, storage = self.storage.local.name, self.spec.storage or str(self.storage.local.parent)
        spec = replace(self.spec, name=name, storage=storage)
        return RunRecord(spec=spec, data=self.data_keys, **run_record.provenance(), **fields)

    @abstractmethod
    def searcher(self) -> TrialSearcher:
        """Return the searcher."""

    @abstractmethod
    def scheduler(self, searcher: Any) -> TrialScheduler:
        """Return the early-stopping scheduler."""

    def cache(self) -> TrialCache | None:
        """Return the complete trials whose results are reused, or None if all trials must be trained."""
        return None

    @abstractmethod
    def is_done(self) -> bool:
        """Return True if no trial is left to train, so that Ray is not needed."""

    def keep(self, trial_id: str) -> None:
        """Store a trial's results for each clip, which are in its newest checkpoint."""
        checkpoint, name = newest_checkpoint(self.storage, trial_id), f"{CLIPS}/{trial_id}.parquet"
        if checkpoint and self.storage.fetch(f"{checkpoint}/{clip_table.FILE}", self.storage.local / name):
            self.storage.push(name)


def newest_checkpoint(storage: Storage, trial_id: str) -> str | None:
    """Return the location of a trial's newest checkpoint inside its run's storage, or None if it has none."""
    for place in (f"{STATE}/{trial_id}", f"train/{train_name(trial_id)}"):
        if kept := [name for name in storage.folders(place) if name.startswith(PREFIX)]:
            return f"{place}/{max(kept)}"
    return None
