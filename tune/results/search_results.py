"""Results of a search, read from its run folder: what its best trial is worth, and which trials may be as good.

Trials of a search are trained with one seed on the same clips. They are compared clip by clip, and clips that resemble
one another (column ``group`` of the table of clips) are drawn together. Another seed would add to these differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from htt.config import Value, flatten
from htt.errors import ConfigError
from htt.evaluation import clip_table
from htt.evaluation.metric_table import METRICS
from tune.results import selection, stats
from tune.results.resampling import by_group
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.selection import value
from tune.results.study_results import clips_of


@dataclass(frozen=True)
class Compared:
    """Difference of a trial to the best one, in the metric's unit."""

    trial: Trial
    difference: float
    low: float
    high: float
    """``low`` and ``high``: ends of the 95 % interval over groups of clips."""

    @property
    def differs(self) -> bool:
        """True if the interval excludes zero."""
        return not self.low <= 0 <= self.high


@dataclass(frozen=True)
class SearchResults:
    """Best trial of a search with one objective, and its comparison with the others."""

    metric: str
    best: Trial
    base: Trial | None
    """Trial of the base configuration, or None if the space does not contain it or it has no value yet."""
    low: float = math.nan
    high: float = math.nan
    """``low`` and ``high``: ends of the 95 % interval of the best value; NaN if its clips were not kept."""
    clips: int = 0
    groups: int = 0
    others: Sequence[Compared] = ()
    """The other complete trials whose clips were kept, best first."""

    @property
    def tied(self) -> list[Trial]:
        """Complete trials that cannot be told apart from the best one, best first."""
        return [each.trial for each in self.others if not each.differs]

    @property
    def of_base(self) -> Compared | None:
        """Comparison of the base configuration with the best trial, or None if its clips were not kept."""
        return next((each for each in self.others if self.base and each.trial.id == self.base.id), None)


def base_trial(record: RunRecord, trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of the base configuration, or None if there is none."""
    try:
        base = flatten(record.config())
    except ConfigError:  # a record of an older version
        return None
    return next((trial for trial in trials if _is_base(base, trial)), None)


def _is_base(base: Mapping[str, Value], trial: Trial) -> bool:
    return bool(trial.values) and all(base.get(path) == value for path, value in trial.values.items())


def read(folder: RunFolder, record: RunRecord, trials: Sequence[Trial]) -> SearchResults | None:
    """Return the results of a search, or None if no trial has a value or several objectives select the best one.

    Raises:
        RunError: the clips of a trial cannot be read.
    """
    metric = record.spec.metric
    order = selection.ranked(trials, metric)
    if not order or record.search.objectives:
        return None
    best, base = order[0], base_trial(record, order)
    complete = [best, *(trial for trial in order[1:] if trial.state == "complete")]
    tables = {trial.id: table for trial in complete if (table := _table(folder, trial)) is not None}
    values = {name: clip_table.values(table, metric) for name, table in tables.items()}
    own = values.get(best.id, {})
    if not own:
        return SearchResults(metric, best, base)
    groups = clip_table.groups_of(list(own), [tables[best.id]])
    # Moved, so that the centre is the metric; its mean over clips may differ, as in study_results.
    spread = stats.summarise(by_group(np.array([list(own.values())]), groups)[0])
    centre = value(best, metric)
    low, high = np.clip([centre + spread.low - spread.mean, centre + spread.high - spread.mean], *METRICS[metric].range)
    others = []
    for trial in complete[1:]:
        if values.get(trial.id, {}).keys() == own.keys():
            difference = value(trial, metric) - centre
            found = stats.compare_clips(tables[best.id], tables[trial.id], metric, difference)
            others.append(Compared(trial, difference, found.low, found.high))
    return SearchResults(metric, best, base, float(low), float(high), len(own), len(set(groups)), others)


def _table(folder: RunFolder, trial: Trial) -> pl.DataFrame | None:
    """Return the table of a trial's clips, or None; that of a reused trial is in the run that trained it."""
    own = clips_of(folder, trial)
    if own is not None or not trial.taken_from:
        return own
    run, _, name = trial.taken_from.partition(" ")[0].rpartition("/")
    return clips_of(RunFolder(folder.path.parent / run), replace(trial, id=name))
