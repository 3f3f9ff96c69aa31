"""Everything an evaluation says, as plain data: each number with its interval and the published one, and every clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from htt.evaluation import intervals
from htt.evaluation.intervals import Interval
from htt.evaluation.published import published
from htt.info import UNKNOWN
from htt.training import clip_table
from htt.training.metric_table import METRICS
from htt.training.metrics import Evaluation
from htt.training.tally import Tally

VOTES = {"action_accuracy": "soft", "action_accuracy_hard": "hard"}
WILSON, BOOTSTRAP = "Wilson", "bootstrap over clips"


@dataclass(frozen=True)
class Score:
    """One number."""

    metric: str
    value: float
    interval: Interval | None
    """95 %; none where there is no way to tell."""
    method: str | None
    """How the interval was found."""
    published: float | None
    """What HTT's authors published for this split, if they did."""
    of: int | None = None
    """For the accuracy of clips: how many clips."""


@dataclass(frozen=True)
class Scores:
    """What an evaluation says about a split."""

    source: str
    split: str
    actions: Sequence[str]
    scores: Sequence[Score]
    published: Mapping[str, float]
    """{metric: what HTT's authors published of this split}"""
    tally: Tally
    curves: Mapping[str, dict[str, list[float]]]
    """{name of the area: {"distance_mm", "fraction", and "low", "high" if there are clips enough}}"""

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "source": self.source,
            "split": self.split,
            "clips": len(self.tally.clip),
            "interval": {"level": intervals.LEVEL, "resamples": intervals.RESAMPLES, "seed": intervals.SEED},
            "metrics": {score.metric: _plain(score) for score in self.scores},
            "curves": self.curves,
        }

    def confusion(self) -> np.ndarray:
        """[a a] clips of each action (row) that were given each action (column), by the soft vote."""
        counts = np.zeros((len(self.actions), len(self.actions)), int)
        known = self.tally.label != UNKNOWN
        np.add.at(counts, (self.tally.label[known], self.tally.actions()[known]), 1)
        return counts


def scores(evaluation: Evaluation, split: str) -> Scores:
    """Every metric of an evaluation with its interval: accuracies, then errors and areas, then losses."""
    tally, info = evaluation.tally(), evaluation.info
    weights = intervals.draws(tally)
    found, known = intervals.bootstrap(tally, weights), published(info.source, split)
    listed = []
    values = evaluation.result()
    for name in sorted(values, key=_rank):
        if info.hands == 1 and name.rpartition("_right")[1]:
            continue  # its one hand is all hands
        of, interval, method = None, found.get(name), BOOTSTRAP
        if name in VOTES:
            correct = tally.correct(VOTES[name])
            of, interval, method = len(correct), intervals.wilson(correct.sum(), len(correct)), WILSON
        listed.append(Score(name, values[name], interval, method if interval else None, known.get(name), of))
    return Scores(info.source, split, info.actions, listed, known, tally, _curves(evaluation, tally, weights))


def per_clip(evaluated: Scores, ids: Sequence[str], subjects: Sequence[str], objects: Sequence[str]) -> pl.DataFrame:
    """A row a clip: what it is, what it was taken for, and its errors.

    Args:
        evaluated: the scores.
        ids: of all clips of the split.
        subjects: of all clips of the split.
        objects: of each clip: what it is about, or "".
    """
    return clip_table.table(evaluated.tally, evaluated.actions, ids, subjects, objects)


def _curves(evaluation: Evaluation, tally: Tally, weights: np.ndarray) -> dict[str, dict[str, list[float]]]:
    bands = intervals.bands(tally, weights)
    found = {}
    for name, curve in evaluation.curves().items():
        found[name] = {"distance_mm": curve.distance_mm.tolist(), "fraction": curve.fraction.tolist()}
        if name in bands:
            found[name] |= {"low": bands[name][0].tolist(), "high": bands[name][1].tolist()}
    return found


def _rank(metric: str) -> tuple[int, int]:
    """What a reader looks for first comes first."""
    kinds = ("action", "object", "hand", "loss")
    return kinds.index(metric.partition("_")[0]), list(METRICS).index(metric)


def _plain(score: Score) -> dict[str, Any]:
    about = METRICS[score.metric]
    return {
        "value": score.value,
        "low": score.interval[0] if score.interval else None,
        "high": score.interval[1] if score.interval else None,
        "interval": score.method,
        "published": score.published,
        "unit": about.unit,
        "higher_is_better": about.higher_is_better,
        **({"clips": score.of} if score.of is not None else {}),
    }
