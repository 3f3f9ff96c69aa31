"""Finalists of a search: its best configurations, trained end to end as a study in ``finalists/`` of the run's folder.

The trials of a search with a frozen encoder train on features (stage one). Stage two trains the best of them with a
trained encoder and with fresh seeds, and the best one of stage one on features with the same seeds: this reference
shows how much of its value was the luck of a selection from many. If stage one goes on and finds other finalists, these
are another study, in ``finalists-2/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from htt.config import Value, override
from htt.evaluation.metric_table import METRICS
from tune.experiments import constraints
from tune.experiments.space import LENGTH
from tune.experiments.spec import SCRATCH, WEIGHTS, SearchSpec
from tune.experiments.study import SEED, Study
from tune.results import selection, stats, study_results
from tune.results.retrain import fresh_seeds
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.stats import Rank, Summary
from tune.results.study_results import StudyResults

FOLDER = "finalists"
FEATURES = "features"
WORDS = {FEATURES: "on features", WEIGHTS: "end to end", SCRATCH: "end to end from scratch"}
"""{start of a variant: the words of its name}."""
START = "model.weights"
RELEASED: Mapping[str, Value] = {"model.backbone.trained": True, "data.augment.views": None}
"""Changes to a configuration with a frozen encoder that train it end to end."""


def names(listed: Iterable[str]) -> list[str]:
    """Return those of the names of a run's folders that hold finalists, the oldest first."""
    return sorted(
        (name for name in listed if re.fullmatch(rf"{FOLDER}(-\d+)?", name)), key=lambda name: (len(name), name)
    )


def newest(run: RunFolder) -> RunFolder | None:
    """Return the folder of the newest finalists of a search, or None if it has none."""
    found = names(path.parent.name for path in run.path.glob(f"{FOLDER}*/run.yaml"))
    return RunFolder(run.path / found[-1]) if found else None


def is_under_way(run: RunFolder) -> bool:
    """Return True if the newest finalists of a search have trainings that have neither succeeded nor failed."""
    folder = newest(run)
    if folder is None:
        return False
    study = folder.record.study.study
    ended = {trial.pair for trial in folder.trials() if trial.state in ("complete", "failed")}
    return any((variant, seed) not in ended for variant in study.variants for seed in study.seeds)


def choose(record: RunRecord, trials: Sequence[Trial], count: int) -> list[Trial]:
    """Return the best complete trials with different configurations, the best first.

    With several objectives the first is picked from the Pareto front, the second from the front of the others, and so
    on.
    """
    chosen: list[Trial] = []
    left = [trial for trial in trials if trial.state == "complete"]
    while len(chosen) < count and (best := selection.best_trial(record, left)):
        chosen.append(best)
        left = [trial for trial in left if trial.fingerprint != best.fingerprint]
    return chosen


def study_of(spec: SearchSpec, finalists: Sequence[Trial], weights: Mapping[str, str]) -> Study:
    """Return the study that trains the finalists of a search.

    Args:
        spec: definition of the search.
        finalists: chosen trials, at least one, the best first.
        weights: {trial id: location of its checkpoint}, used by finalists that start from their weights.
    """
    base, first = spec.config(), finalists[0]
    variants = {_name(first, FEATURES): _values(first)}
    seen: set[str] = set()
    for trial in finalists:
        for start in spec.finalist_starts:
            changes = {**_values(trial), **RELEASED}
            if start == WEIGHTS:
                own = {LENGTH: spec.finalist_epochs, "optim.lr": spec.finalist_lr, START: weights[trial.id]}
                changes = {**changes, **own}
            fingerprint = override(base, changes).fingerprint()
            if fingerprint not in seen:  # without features, such trials may differ in nothing
                variants[_name(trial, start)] = changes
            seen.add(fingerprint)
    known = [name for name in selection.PAIR if name in first.metrics]
    used = {base.train.seed, *(int(str(trial.values.get(SEED, base.train.seed))) for trial in finalists)}
    return Study(
        question="Do the best configurations on features stay the best when they are trained end to end?",
        variants=variants,
        reference=_name(first, FEATURES),
        seeds=fresh_seeds(spec.finalist_seeds, used),
        metrics=tuple(dict.fromkeys([*spec.all_objectives, *known])),
    )


def is_same(one: Study, other: Study) -> bool:
    """Return True if two studies train the same finalists; their seeds and the location of the run may differ."""

    def plain(study: Study) -> dict[str, dict[str, Value]]:
        return {name: {**changes, START: START in changes} for name, changes in study.plain()["variants"].items()}

    return plain(one) == plain(other)


@dataclass(frozen=True)
class Finalist:
    """A configuration of stage two, and its trial of stage one."""

    variant: str
    start: str
    """"weights", "scratch", or "features" for the reference."""
    found: Trial
    """Trial of stage one."""
    changes: Mapping[str, Value]
    """Changes to the base of the search: {dotted path: value}."""
    trials: Sequence[Trial]
    """Complete trials of stage two, one for each seed."""

    def summary(self, metric: str) -> Summary:
        """Return the mean of a metric over the seeds, with its interval."""
        values = [selection.value(trial, metric) for trial in self.trials]
        return stats.summarise(values, METRICS[metric].range)


@dataclass(frozen=True)
class Finals:
    """Results of both stages of a search."""

    folder: RunFolder
    """Folder of stage two."""
    record: RunRecord
    """Record of the search."""
    results: StudyResults
    stage_one: Trial
    """Best trial of stage one."""
    reference: Finalist
    """Best complete configuration of stage one, trained again on features."""
    finalists: Sequence[Finalist]

    @property
    def metric(self) -> str:
        """Metric that selects trials."""
        return self.record.search.metric

    @cached_property
    def seeds(self) -> list[int]:
        """Seeds that are complete for all finalists of which any is: finalists are compared by these alone."""
        done = [{trial.seed for trial in each.trials} for each in self.finalists if each.trials]
        return [seed for seed in self.results.seeds if done and all(seed in seeds for seeds in done)]

    @cached_property
    def best(self) -> Trial:
        """The best trial of stage one, or a row with the means of a finalist if this is better.

        The row has the changes of the finalist, and the id of its training with the first seed.
        """
        rows = [self._row(each) for each in self.finalists if each.trials and self.seeds]
        return selection.best_trial(self.record, [self.stage_one, *rows]) or self.stage_one

    @property
    def winner(self) -> Finalist | None:
        """Finalist that is better than the best trial of stage one, or None."""
        return next((each for each in self.finalists if each.variant == self.best.variant), None)

    def agreement(self, start: str) -> Rank:
        """Return the rank correlation of the values of both stages, over the finalists with this start."""
        rows = [each for each in self.finalists if each.start == start and each.trials]
        means = [each.summary(self.metric).mean for each in rows]
        return stats.spearman([selection.value(each.found, self.metric) for each in rows], means)

    def _row(self, finalist: Finalist) -> Trial:
        trials = [trial for trial in finalist.trials if trial.seed in self.seeds]
        known = set.intersection(*(set(trial.metrics) for trial in trials))
        means = {name: float(np.mean([trial.metrics[name] for trial in trials])) for name in METRICS if name in known}
        broken = constraints.broken(self.record.search.constraints, means)
        number, values = finalist.found.number, finalist.changes
        return replace(
            trials[0], number=number, values=values, metrics=means, best=means, curve=(), curves={}, violation=broken
        )


def read(run: RunFolder, trials: Sequence[Trial]) -> Finals | None:
    """Return the results of both stages of a search, or None if it has no finalists.

    Args:
        run: folder of the search.
        trials: trials of the search.

    Raises:
        RunError: the folder of the finalists cannot be read.
    """
    folder, record = newest(run), run.record
    best = selection.best_trial(record, trials)
    if folder is None or best is None:
        return None
    results = study_results.read(folder)
    rows = [
        Finalist(name, start, trial, results.study.variants[name], [each for each in results.trials(name) if each])
        for trial in trials
        for start in WORDS
        if (name := _name(trial, start)) in results.study.variants
    ]
    order = {name: place for place, name in enumerate(results.study.variants)}
    reference, *others = sorted(rows, key=lambda row: order[row.variant])
    return Finals(folder, record, results, best, reference, others)


def _name(trial: Trial, start: str) -> str:
    """Return the name of a finalist's variant."""
    return f"trial {trial.number}, {WORDS[start]}"


def _values(trial: Trial) -> dict[str, Value]:
    """Return the changes of a trial of stage one, without a seed."""
    return {path: value for path, value in trial.values.items() if path != SEED}
