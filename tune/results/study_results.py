"""Results of a study, read from its run folder: values of each variant per seed, and differences to the reference.

Differences are tested by ``stats.py`` over seeds and groups of clips. A metric of a split may differ from the mean over
its clips; a hand error is averaged over each joint first, so that a clip is weighted by its frames. The clip values of
each trial are therefore shifted by a constant, so that their mean equals the metric, and a difference equals the
difference of the reported means. The variation of clips about their mean is unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from htt.config import Config, Value
from htt.errors import ConfigError, RunError
from htt.evaluation import clip_table
from htt.evaluation.metric_table import METRICS, untrained_by
from htt.text import plural
from tune.experiments.study import TUNED, Study
from tune.results import stats
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.selection import value
from tune.results.stats import Comparison, Summary


@dataclass(frozen=True)
class VariantResults:
    """Result of one variant for one metric."""

    variant: str
    changes: Mapping[str, Value]
    values: np.ndarray
    """[s] in the order of the study's seeds; NaN if missing."""
    summary: Summary
    comparison: Comparison | None
    """Comparison to the reference, or None for the reference itself."""
    seconds: float
    """Mean duration of a trial, s; NaN if unknown."""
    parameters: float
    """Number of trainable parameters of the model; NaN if not recorded."""
    paper: float
    """Published value; NaN if there is none."""


@dataclass(frozen=True)
class MetricResults:
    """Results of all variants for one metric, the reference first."""

    metric: str
    rows: Sequence[VariantResults]
    clips: int
    """Number of clips in the comparisons; 0 if these are over seeds only."""
    groups: int
    """Number of groups of these clips, which intervals are over."""
    curves: Mapping[str, Sequence[Sequence[float]]]
    """{variant: values per epoch, for each seed}; empty if not recorded."""

    @property
    def reference(self) -> VariantResults:
        """Results of the reference."""
        return self.rows[0]

    @property
    def others(self) -> list[tuple[VariantResults, Comparison]]:
        """Results of the other variants, with their comparisons."""
        return [(row, row.comparison) for row in self.rows if row.comparison is not None]


@dataclass(frozen=True)
class StudyResults:
    """Contents of a study's run folder."""

    record: RunRecord
    study: Study
    """All variants, or those of one of the ``parts``."""
    base: Config
    pairs: Mapping[tuple[str, int], Trial]
    """{(variant, seed): trial}; the complete trial if there are several."""
    clips: Mapping[str, pl.DataFrame]
    """{trial id: table of clips}, if stored."""

    @property
    def seeds(self) -> Sequence[int]:
        """Seeds of the study."""
        return self.study.seeds

    @property
    def order(self) -> list[str]:
        """Names of the variants, the reference first."""
        return [self.study.reference, *self.study.others]

    def complete(self, variant: str, seed: int) -> Trial | None:
        """Return the trial of a variant and seed if it is complete, or None."""
        trial = self.pairs.get((variant, seed))
        return trial if trial is not None and trial.state == "complete" else None

    def trials(self, variant: str) -> list[Trial | None]:
        """Return the complete trials of a variant in the order of the seeds, None for a missing one."""
        return [self.complete(variant, seed) for seed in self.seeds]

    def missing(self) -> dict[str, list[str]]:
        """Return {variant: reasons for missing seeds} of the variants with incomplete trials."""
        found: dict[str, list[str]] = {}
        for variant in self.order:
            absent = [seed for seed in self.seeds if (variant, seed) not in self.pairs]
            ended = [(seed, self.pairs[variant, seed]) for seed in self.seeds if (variant, seed) in self.pairs]
            why = [f"{_seeds(absent)} not trained yet"] if absent else []
            why += [f"{_seeds([seed])} {_fate(trial)}" for seed, trial in ended if trial.state != "complete"]
            if why:
                found[variant] = why
        return found


def read(folder: RunFolder) -> StudyResults:
    """Read a study, finished or not.

    Raises:
        RunError: a file is missing, cannot be read, or does not belong to a study.
    """
    record = folder.record
    study = record.study.whole
    try:
        base = record.config()
    except ConfigError as error:
        raise RunError(f"Cannot read the study in {folder.path}: {error}") from error
    pairs: dict[tuple[str, int], Trial] = {}
    for trial in folder.trials():
        if trial.pair and (trial.pair not in pairs or pairs[trial.pair].state != "complete"):
            pairs[trial.pair] = trial
    clips = {trial.id: table for trial in pairs.values() if (table := clips_of(folder, trial)) is not None}
    return StudyResults(record, study, base, pairs, clips)


def parts(results: StudyResults) -> list[StudyResults]:
    """Return the results at shared settings and, if the variants were tuned, those of each at its own best.

    A variant whose search found the shared settings has the same trainings in both.
    """
    spec, tuned = results.record.study, results.record.study.tuned_study
    shared = replace(results, study=spec.study)
    if tuned is None:
        return [shared]
    same = {
        (f"{name}{TUNED}", seed): results.pairs[name, seed]
        for name, found in spec.tuned.items()
        for seed in results.seeds
        if not found.values and (name, seed) in results.pairs
    }
    return [shared, replace(results, study=tuned, pairs={**results.pairs, **same})]


def results_by_metric(results: StudyResults) -> list[MetricResults]:
    """Return the results of a study for each of its metrics."""
    return [_results_of(results, metric) for metric in results.study.metrics]


def tables(results: StudyResults, metric: str) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return {variant: [s c]} over the clips that all trials have, and their groups; [s] and [] if there are none.

    A row of NaN is a trial that is not complete or lacks the metric.
    """
    values = {name: _values(results, name, metric) for name in results.order}
    known = {
        (name, row): clip_table.values(results.clips.get(results.pairs[name, seed].id, pl.DataFrame()), metric)
        for name in results.order
        for row, seed in enumerate(results.seeds)
        if not math.isnan(values[name][row])
    }
    shared = sorted(set.intersection(*map(set, known.values()))) if known else []
    if not shared:
        return values, []
    tables = {name: np.full((len(results.seeds), len(shared)), math.nan) for name in results.order}
    for (name, row), clips in known.items():
        each = np.array([clips[clip] for clip in shared])
        tables[name][row] = each + (values[name][row] - each.mean())
    return tables, clip_table.groups_of(shared, results.clips.values())


def _results_of(results: StudyResults, metric: str) -> MetricResults:
    by_clip, groups = tables(results, metric)
    compared = stats.compare(
        by_clip[results.study.reference],
        {name: by_clip[name] for name in results.study.others},
        METRICS[metric].higher_is_better,
        groups=groups,
        primary=results.study.primary,
        untrained=_untrained(results, metric),
    )
    rows = [_variant_results(results, name, metric, compared.get(name)) for name in results.order]
    curves = {name: curves for name in results.order if (curves := _curves(results, name, metric))}
    return MetricResults(metric, rows, len(groups), len(set(groups)), curves)


def _untrained(results: StudyResults, metric: str) -> list[str]:
    """Return the variants of which a metric says nothing: its head, or that of the reference, has no loss."""
    configs = results.study.configs(results.base)
    found = [name for name, config in configs.items() if untrained_by(metric, config.loss)]
    return results.order if results.study.reference in found else found


def _variant_results(results: StudyResults, name: str, metric: str, comparison: Comparison | None) -> VariantResults:
    values = _values(results, name, metric)
    seconds = [trial.seconds for trial in results.trials(name) if trial and trial.seconds > 0]
    return VariantResults(
        variant=name,
        changes=results.study.variants[name],
        values=values,
        summary=stats.summarise(values, METRICS[metric].range),
        comparison=comparison,
        seconds=float(np.mean(seconds)) if seconds else math.nan,
        parameters=float(results.record.parameters.get(name, math.nan)),
        paper=float(results.study.paper(results.base, name).get(metric, math.nan)),
    )


def _values(results: StudyResults, name: str, metric: str) -> np.ndarray:
    """Return the metric of each seed [s]; NaN if the trial is not complete or lacks the metric."""
    values = np.array([value(trial, metric) if trial else math.nan for trial in results.trials(name)])
    return np.where(np.isfinite(values), values, math.nan)


def _curves(results: StudyResults, name: str, metric: str) -> list[Sequence[float]]:
    """Return the values per epoch of each trial that recorded them; older versions recorded the first metric only."""
    first = metric == results.record.spec.metric
    curves = [trial.curves.get(metric) or (trial.curve if first else ()) for trial in results.trials(name) if trial]
    return [curve for curve in curves if len(curve)]


def clips_of(folder: RunFolder, trial: Trial) -> pl.DataFrame | None:
    """Return the table of a trial's clips, or None if it was not kept."""
    path = folder.clips / f"{trial.id}.parquet"
    try:
        return pl.read_parquet(path) if path.exists() else None
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"Cannot read the clips of a trial in {path}: {error}") from error


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _fate(trial: Trial) -> str:
    """Return in words how an incomplete trial ended."""
    if trial.error:
        return f"failed ({trial.error})"
    word = "was stopped" if trial.state in ("stopped", "pruned") else trial.state
    return f"{word} after {plural(trial.epochs, 'epoch')}"
