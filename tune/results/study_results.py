"""What a study found, from its run folder alone: each variant's values seed by seed, and how it differs.

Differences are judged by ``stats.py`` over seeds and clips. A metric of a whole split need not be the mean over
its clips (a hand error is averaged over each joint first, so that a clip counts by its frames); each training's clips
are therefore moved by one number, so that their mean is the metric itself, and a difference is that of the means a
reader sees. How clips vary about their mean stays as it was.
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
from tune.results.run_folder import Asked, RunFolder, Trial, value
from tune.results.stats import Comparison, Summary

_OF_CLIPS = {"action_accuracy": "correct", "action_accuracy_hard": "correct_hard"}
"""{metric: its column in a table of clips}, where they differ."""


@dataclass(frozen=True)
class Row:
    """One variant, by one metric."""

    variant: str
    changes: Mapping[str, Value]
    values: np.ndarray
    """[s] by the study's seeds; NaN where there is none."""
    summary: Summary
    comparison: Comparison | None
    """To the reference; none of the reference itself."""
    seconds: float
    """A trial takes, on the average; NaN where none is known."""
    parameters: float
    """Of the model; NaN where the run does not say."""
    paper: float
    """As published; NaN where nothing is."""


@dataclass(frozen=True)
class Finding:
    """All variants by one metric, the reference first."""

    metric: str
    rows: Sequence[Row]
    clips: int
    """Clips that differences are judged by; 0: by seeds alone."""
    curves: Mapping[str, Sequence[Sequence[float]]]
    """{variant: the metric epoch by epoch, of each seed}; empty where it was not recorded."""

    @property
    def reference(self) -> Row:
        """What the others are compared to."""
        return self.rows[0]

    @property
    def others(self) -> list[tuple[Row, Comparison]]:
        """The rest, with how they differ."""
        return [(row, row.comparison) for row in self.rows if row.comparison is not None]


@dataclass(frozen=True)
class Done:
    """A study's run folder, read."""

    asked: Asked
    study: Study
    base: Config
    pairs: Mapping[tuple[str, int], Trial]
    """{(variant, seed): its training}, the complete one where there are several."""
    clips: Mapping[str, pl.DataFrame]
    """{trial id: its clips}, where they were kept."""

    @property
    def seeds(self) -> Sequence[int]:
        """What each variant is to be trained with."""
        return self.study.seeds

    @property
    def order(self) -> list[str]:
        """The variants, the reference first."""
        return [self.study.reference, *self.study.others]

    def complete(self, variant: str, seed: int) -> Trial | None:
        """The training, if it came to its end."""
        trial = self.pairs.get((variant, seed))
        return trial if trial is not None and trial.state == "complete" else None

    def missing(self) -> dict[str, list[str]]:
        """{variant: why which seeds are missing}, of those that are not complete."""
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
    """All there is of a study, finished or not.

    Raises:
        RunError: a file is missing, cannot be read, or is of no study.
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
    """What the study found, metric by metric."""
    return [_finding(done, metric) for metric in done.study.metrics]


def tables(done: Done, metric: str) -> tuple[dict[str, np.ndarray], int]:
    """{variant: [s c]}, and how many clips: those that all trainings know; [s] where clips are not known.

    A row of NaN is a training that is not complete.
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
    """[s] the metric of each seed; NaN where the training is not complete, or knows no such thing."""
    trials = [done.complete(name, seed) for seed in done.seeds]
    found = np.array([value(trial, metric) if trial else math.nan for trial in trials])
    return np.where(np.isfinite(found), found, math.nan)


def _tables(done: Done, values: Mapping[str, np.ndarray], metric: str) -> tuple[dict[str, np.ndarray], int]:
    """{variant: [s c]} of the clips that all trainings know, or [s] where clips are not known; and how many clips."""
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
    """{clip: value} of a table of clips, where the value is known."""
    if clips is None or column not in clips.columns or "clip" not in clips.columns:
        return {}
    pairs = zip(clips["clip"].to_list(), clips[column].to_list(), strict=True)
    return {clip: float(each) for clip, each in pairs if each is not None and math.isfinite(each)}


def _curves(done: Done, metric: str) -> dict[str, list[Sequence[float]]]:
    """{variant: the metric epoch by epoch, of each seed}, where the run recorded it."""
    found = {}
    for name in done.order:
        trials = [trial for seed in done.seeds if (trial := done.complete(name, seed)) is not None]
        curves = [curve for trial in trials if len(curve := _curve(done, trial, metric))]
        if curves:
            found[name] = curves
    return found


def _curve(done: Done, trial: Trial, metric: str) -> Sequence[float]:
    """Of every metric of the study; a run of an older version recorded the first alone."""
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
    """What became of a training that is not complete."""
    if trial.error:
        return f"failed ({trial.error})"
    word = "was stopped" if trial.state in ("stopped", "pruned") else trial.state
    return f"{word} after {plural(trial.epochs, 'epoch')}"
