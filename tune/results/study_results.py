"""Results of a study, read from its run folder: values of each variant per seed, and differences to the reference.

Differences are tested by ``stats.py`` over seeds and clips. A metric of a split may differ from the mean over its
clips; a hand error is averaged over each joint first, so that a clip is weighted by its frames. The clip values of each
trial are therefore shifted by a constant, so that their mean equals the metric, and a difference equals the difference
of the reported means. The variation of clips about their mean is unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from htt.config import Config, Value
from htt.errors import HTTError, RunError
from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.experiments.study import Study
from tune.results import stats
from tune.results.run_folder import Asked, RunFolder, Trial
from tune.results.selection import value
from tune.results.stats import Comparison, Summary

_OF_CLIPS = {"action_accuracy": "correct", "action_accuracy_hard": "correct_hard"}
"""{metric: column in the table of clips}, if the names differ."""


@dataclass(frozen=True)
class Row:
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
class Finding:
    """Results of all variants for one metric, the reference first."""

    metric: str
    rows: Sequence[Row]
    clips: int
    """Number of clips in the comparisons; 0 if these are over seeds only."""
    curves: Mapping[str, Sequence[Sequence[float]]]
    """{variant: values per epoch, for each seed}; empty if not recorded."""

    @property
    def reference(self) -> Row:
        """Row of the reference."""
        return self.rows[0]

    @property
    def others(self) -> list[tuple[Row, Comparison]]:
        """Rows of the other variants, with their comparisons."""
        return [(row, row.comparison) for row in self.rows if row.comparison is not None]


@dataclass(frozen=True)
class Done:
    """Contents of a study's run folder."""

    asked: Asked
    study: Study
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


def read(folder: RunFolder) -> Done:
    """Read a study, finished or not.

    Raises:
        RunError: a file is missing, cannot be read, or does not belong to a study.
    """
    asked = folder.asked()
    try:
        study, base = Study.from_plain(asked.study), asked.config()
    except (HTTError, TypeError, AttributeError) as error:
        raise RunError(f"{folder.path / 'asked.yaml'} must hold a study; it cannot be read: {error}") from error
    pairs: dict[tuple[str, int], Trial] = {}
    for trial in folder.trials():
        before = pairs.get(trial.pair) if trial.pair else None
        if trial.pair and (before is None or before.state != "complete"):
            pairs[trial.pair] = trial
    clips = {trial.id: table for trial in pairs.values() if (table := _clips(folder, trial)) is not None}
    return Done(asked, study, base, pairs, clips)


def findings(done: Done) -> list[Finding]:
    """Return the results of a study for each of its metrics."""
    return [_finding(done, metric) for metric in done.study.metrics]


def tables(done: Done, metric: str) -> tuple[dict[str, np.ndarray], int]:
    """Return {variant: [s c]} over the clips that all trials have, and their number; [s] and 0 if there are none.

    A row of NaN is a trial that is not complete.
    """
    return _tables(done, {name: _values(done, name, metric) for name in done.order}, metric)


def _finding(done: Done, metric: str) -> Finding:
    values = {name: _values(done, name, metric) for name in done.order}
    tables, clips = _tables(done, values, metric)
    reference = done.study.reference
    others = {name: tables[name] for name in done.study.others}
    primary = done.study.primary
    compared = stats.compare(tables[reference], others, METRICS[metric].higher_is_better, primary=primary)
    rows = [_row(done, name, metric, values[name], compared.get(name)) for name in done.order]
    return Finding(metric, rows, clips, _curves(done, metric))


def _row(done: Done, name: str, metric: str, values: np.ndarray, comparison: Comparison | None) -> Row:
    seconds = [trial.seconds for seed in done.seeds if (trial := done.complete(name, seed)) and trial.seconds > 0]
    return Row(
        variant=name,
        changes=done.study.variants[name],
        values=values,
        summary=stats.summarise(values, METRICS[metric].range),
        comparison=comparison,
        seconds=float(np.mean(seconds)) if seconds else math.nan,
        parameters=float(done.asked.parameters.get(name, math.nan)),
        paper=float(done.study.paper(done.base, name).get(metric, math.nan)),
    )


def _values(done: Done, name: str, metric: str) -> np.ndarray:
    """Return the metric of each seed [s]; NaN if the trial is not complete or lacks the metric."""
    trials = [done.complete(name, seed) for seed in done.seeds]
    found = np.array([value(trial, metric) if trial else math.nan for trial in trials])
    return np.where(np.isfinite(found), found, math.nan)


def _tables(done: Done, values: Mapping[str, np.ndarray], metric: str) -> tuple[dict[str, np.ndarray], int]:
    """Return {variant: [s c]} over the clips that all trials have, and their number; ``values`` and 0 if none."""
    column = _OF_CLIPS.get(metric, metric)
    known = {}
    for name, of_seeds in values.items():
        for seed, number in zip(done.seeds, of_seeds, strict=True):
            trial = done.complete(name, seed)
            if trial is not None and not math.isnan(number):
                known[name, seed] = _by_clip(done.clips.get(trial.id), column)
    shared = set.intersection(*(set(clips) for clips in known.values())) if known else set()
    if not shared:
        return dict(values), 0
    order = sorted(shared)
    tables = {}
    for name, of_seeds in values.items():
        table = np.full((len(done.seeds), len(order)), math.nan)
        for row, seed in enumerate(done.seeds):
            if (name, seed) in known:
                each = np.array([known[name, seed][clip] for clip in order])
                table[row] = each + (of_seeds[row] - each.mean())
        tables[name] = table
    return tables, len(order)


def _by_clip(clips: pl.DataFrame | None, column: str) -> dict[str, float]:
    """Return {clip: value} of a table of clips, for finite values."""
    if clips is None or column not in clips.columns or "clip" not in clips.columns:
        return {}
    pairs = zip(clips["clip"].to_list(), clips[column].to_list(), strict=True)
    return {clip: float(each) for clip, each in pairs if each is not None and math.isfinite(each)}


def _curves(done: Done, metric: str) -> dict[str, list[Sequence[float]]]:
    """Return {variant: values per epoch, for each seed}, for variants with recorded values."""
    found = {}
    for name in done.order:
        trials = [trial for seed in done.seeds if (trial := done.complete(name, seed)) is not None]
        curves = [curve for trial in trials if len(curve := _curve(done, trial, metric))]
        if curves:
            found[name] = curves
    return found


def _curve(done: Done, trial: Trial, metric: str) -> Sequence[float]:
    """Return the values per epoch of a metric; runs of older versions recorded the first metric only."""
    return trial.curves.get(metric) or (trial.curve if metric == done.asked.metric else ())


def _clips(folder: RunFolder, trial: Trial) -> pl.DataFrame | None:
    path = folder.clips / f"{trial.id}.parquet"
    if not path.exists():
        return None
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} must hold the clips of a trial; it cannot be read: {error}") from error


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds))}"


def _fate(trial: Trial) -> str:
    """Return in words how an incomplete trial ended."""
    if trial.error:
        return f"failed ({trial.error})"
    word = "was stopped" if trial.state in ("stopped", "pruned") else trial.state
    return f"{word} after {plural(trial.epochs, 'epoch')}"
