"""Scores of an evaluation, as plain data: each number with its interval and the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from htt.config import Config
from htt.data.shards.manifest import Coverage
from htt.evaluation import intervals
from htt.evaluation.intervals import Interval
from htt.evaluation.metric_table import BASELINES, EARLY, HEADS, METRICS, untrained_by
from htt.evaluation.metrics import Evaluation
from htt.evaluation.published import published, published_counts
from htt.evaluation.sums import SHARES, VOTES, ClipSums, early_area
from htt.info import UNKNOWN
from htt.text import plural

WILSON, BOOTSTRAP = "Wilson", "bootstrap over clips"
OVER_GROUPS = {WILSON: "Wilson, effective number of clips", BOOTSTRAP: "bootstrap over groups of clips"}
"""{method: its name if several clips are of one group}"""


@dataclass(frozen=True)
class Score:
    """Value of one metric."""

    metric: str
    value: float
    interval: Interval | None
    """95 % interval, or None if it cannot be computed."""
    method: str | None
    """Method of the interval."""
    published: float | None
    """Value that HTT's authors published for this split, or None."""
    of: int | None = None
    """Number of clips, for the accuracy of clips."""
    published_interval: Interval | None = None
    """Wilson's 95 % interval of the published value, or None if its counts are unknown."""
    difference: Interval | None = None
    """95 % interval of this value less the published one, as of two independent samples, or None without both counts.
    """


@dataclass(frozen=True)
class Scores:
    """Scores of a split."""

    source: str
    split: str
    actions: Sequence[str]
    scores: Sequence[Score]
    published: Mapping[str, float]
    """{metric: value that HTT's authors published for this split}"""
    sums: ClipSums
    curves: Mapping[str, dict[str, list[float]]]
    """{name of the area: {"distance_mm", or "share" of the early action, "fraction", and "low", "high" if there are
    enough clips}}"""
    coverage: Coverage | None = None
    """Coverage of the split by the evaluated clips, or None if unknown."""
    subjects: int = 0
    """Number of people in the evaluated clips, or 0 if unknown."""
    groups: int = 0
    """Number of groups of the evaluated clips."""
    reservations: Sequence[str] = ()
    """Reasons why some numbers are not results of the model, from its configuration."""
    sees_images: bool = True
    """False for a model without an image encoder, which predicts neither hands nor objects."""
    forecast: Mapping[str, Any] = field(default_factory=dict)
    """{"time_s", and for the forecast and each of ``BASELINES`` {"error_mm", and "low", "high" if there are enough
    clips}}; empty without a forecast."""

    @property
    def comparable(self) -> bool:
        """True if the evaluated clips are those of the published numbers."""
        counts = published_counts(self.source, self.split)
        whole = self.coverage is None or self.coverage.complete
        labelled = int((self.sums.label != UNKNOWN).sum())  # H2O's test clips have no label, but comparable poses
        clips = {len(self.sums.clip), labelled or len(self.sums.clip)}
        return whole and (counts is None or clips == {counts[1]})

    @property
    def warnings(self) -> list[str]:
        """Warnings to show beside the numbers, about missing clips and about the model."""
        warnings = [self.coverage.warning] if self.coverage and not self.coverage.complete else []
        warnings += self.reservations
        if self.published and not self.comparable:
            counts = published_counts(self.source, self.split)
            of = f" ({counts[1]} clips)" if counts else ""
            warnings.append(
                f"The published numbers are of the whole split{of}, these of "
                f"{plural(len(self.sums.clip), 'clip')}: they cannot be compared."
            )
        return warnings

    def plain(self) -> dict[str, Any]:
        """Return the scores as JSON data."""
        return {
            "source": self.source,
            "split": self.split,
            "clips": len(self.sums.clip),
            "groups": self.groups,
            "subjects": self.subjects or None,
            "complete": self.coverage.complete if self.coverage else None,
            "coverage": asdict(self.coverage) if self.coverage else None,
            "published_comparable": self.comparable if self.published else None,
            "warnings": self.warnings,
            "interval": {"level": intervals.LEVEL, "resamples": intervals.RESAMPLES, "seed": intervals.SEED},
            "metrics": {score.metric: _plain(score) for score in self.scores},
            "curves": self.curves,
            **({"forecast": self.forecast} if self.forecast else {}),
        }

    def confusion(self) -> np.ndarray:
        """Return [a a]: clips of each true action (row) per action predicted by the soft vote (column)."""
        counts = np.zeros((len(self.actions), len(self.actions)), int)
        known = self.sums.label != UNKNOWN
        np.add.at(counts, (self.sums.label[known], self.sums.actions()[known]), 1)
        return counts


def scores(
    evaluation: Evaluation,
    split: str,
    *,
    coverage: Coverage | None = None,
    subjects: Sequence[str] = (),
    groups: Sequence[str] = (),
    reservations: Sequence[str] = (),
    sees_images: bool = True,
) -> Scores:
    """Return every metric of an evaluation with its interval: accuracies, then errors and areas, then losses.

    Args:
        evaluation: evaluation of the split, or of its available clips.
        split: name of the split.
        coverage: coverage of the split by the evaluated clips.
        subjects: subjects of all clips of the split.
        groups: groups of all clips of the split; if empty, each clip is its own.
        reservations: see ``Scores``.
        sees_images: see ``Scores``.
    """
    sums, info = evaluation.sums(), evaluation.info
    own = [groups[clip] for clip in sums.clip.tolist()] if groups else list(map(str, sums.clip.tolist()))
    weights, grouped = intervals.draws(sums, own), len(set(own)) < len(own)
    drawn, known = intervals.bootstrap(sums, weights, own), published(info.source, split)
    if interval := _early_interval(sums, own):
        drawn[EARLY] = interval
    counts = published_counts(info.source, split)
    wilson, bootstrap = (OVER_GROUPS[each] if grouped else each for each in (WILSON, BOOTSTRAP))
    listed = []
    values = evaluation.result()
    for name in sorted(values, key=_rank):
        if info.hands == 1 and name.rpartition("_right")[1]:
            continue  # its only hand is "all hands"
        score = Score(name, values[name], drawn.get(name), bootstrap if name in drawn else None, known.get(name))
        if name in VOTES:
            score = _of_accuracy(score, sums, own, counts, wilson)
        listed.append(score)
    curves = _curves(evaluation, sums, weights, own)
    people = len({subjects[clip] for clip in sums.clip.tolist()} - {""}) if subjects else 0
    count = len(set(own))
    about = coverage, people, count, reservations, sees_images, _forecast(sums, weights, own)
    return Scores(info.source, split, info.actions, listed, known, sums, curves, *about)


def reservations(config: Config) -> list[str]:
    """Return a sentence for given cues, and one for metrics of heads that were not trained."""
    given, found = config.model.action.given, []
    if not config.model.backbone.reads_images:
        bound = " The true object is a label: the accuracy of actions is an upper bound." if "object" in given else ""
        return [
            f"The model saw no images, but the {' and '.join(given)} of the data: it predicts neither hands nor "
            f"objects, so their metrics are absent.{bound}"
        ]
    if given:
        found.append(
            f"Block A got the true {' and '.join(given)} (model.action.given): the accuracy of actions is an upper "
            "bound, not a result."
        )
    absent = {"hand_type": not config.model.predicts_hand_types, "forecast": not config.model.forecast.frames}
    for head in (each for each in HEADS if not absent.get(each)):
        if off := [f"loss.{term}" for term in untrained_by(head, config.loss)]:
            found.append(
                f"The {head} head was trained with a weight of 0 of {' and '.join(off)}: its metrics are no results."
            )
    return found


def _of_accuracy(
    score: Score, sums: ClipSums, groups: Sequence[str], counts: tuple[int, int] | None, method: str
) -> Score:
    """Return the score of an accuracy of clips with its interval, and with the published counts compared.

    The clips of the published model are in the same groups, but its predictions are not published. It therefore gets
    the ratio of effective clips to clips of ours.
    """
    correct = sums.correct(VOTES[score.metric])
    known = _known(sums, groups)
    right, of = int(correct.sum()), len(correct)
    ratio = intervals.effective(correct, known) / of
    score = replace(score, of=of)
    if np.isnan(ratio):
        return score
    score = replace(score, interval=intervals.wilson(ratio * right, ratio * of), method=method)
    if score.published is None or not counts:
        return score
    other_right, other_of = (ratio * count for count in counts)
    return replace(
        score,
        published_interval=intervals.wilson(other_right, other_of),
        difference=intervals.difference(ratio * right, ratio * of, other_right, other_of),
    )


def _known(sums: ClipSums, groups: Sequence[str]) -> list[str]:
    """Return the groups of the clips with a known action."""
    return [group for group, label in zip(groups, sums.label, strict=True) if label != UNKNOWN]


def _early_interval(sums: ClipSums, groups: Sequence[str]) -> Interval | None:
    """Return the interval of the early action's area, or None if it is not known or has none."""
    correct = sums.early_correct()
    if correct is None or not len(correct):
        return None
    return intervals.mean(early_area(correct), _known(sums, groups))


def _early_curve(sums: ClipSums, groups: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Return the accuracy at each observed share, each with its own Wilson interval; empty if it is not known."""
    correct, known = sums.early_correct(), _known(sums, groups)
    if correct is None or not len(correct):
        return {}
    curve = {"share": list(SHARES), "fraction": correct.mean(axis=0).tolist()}
    numbers = [intervals.effective(right, known) for right in correct.T]
    if not np.isnan(numbers).any():
        pairs = zip(numbers, curve["fraction"], strict=True)
        ends = [intervals.wilson(number * fraction, number) for number, fraction in pairs]
        curve |= {"low": [low for low, _ in ends], "high": [high for _, high in ends]}
    return {EARLY: curve}


def _curves(
    evaluation: Evaluation, sums: ClipSums, weights: np.ndarray, groups: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    bands = intervals.bands(sums, weights, groups)
    curves = {}
    for name, curve in evaluation.curves().items():
        curves[name] = {"distance_mm": curve.distance_mm.tolist(), "fraction": curve.fraction.tolist()}
        if name in bands:
            curves[name] |= {"low": bands[name][0].tolist(), "high": bands[name][1].tolist()}
    return curves | _early_curve(sums, groups)


def _forecast(sums: ClipSums, weights: np.ndarray, groups: Sequence[str]) -> dict[str, Any]:
    """Return the errors of the forecast and of the baselines at each later frame, as ``Scores.forecast``."""
    if sums.ahead is None:
        return {}
    (mean_mm,), edges = sums.ahead.mean_mm(np.ones((1, len(sums.clip)))), intervals.ahead(sums, weights, groups)
    known = ~np.isnan(mean_mm).any(axis=0)
    times_s = np.arange(1, len(known) + 1)[known] / sums.frame_rate
    found: dict[str, Any] = {"time_s": times_s.tolist()}
    for place, name in enumerate(("forecast", *BASELINES)):
        found[name] = {"error_mm": mean_mm[place, known].tolist()}
        if edges is not None:
            found[name] |= {"low": edges[0, place, known].tolist(), "high": edges[1, place, known].tolist()}
    return found if known.any() else {}


def _rank(metric: str) -> tuple[int, int]:
    """Return a sort key that puts the most important metrics first."""
    kinds = ("action", "object", "hand", "forecast", "loss")
    return kinds.index(metric.partition("_")[0]), list(METRICS).index(metric)


def _plain(score: Score) -> dict[str, Any]:
    about, unknown = METRICS[score.metric], (None, None)
    low, high = score.interval or unknown
    plain = {
        "value": score.value,
        "low": low,
        "high": high,
        "interval": score.method,
        "published": score.published,
        "unit": about.unit,
        "higher_is_better": about.higher_is_better,
    }
    if score.of is not None:
        plain["clips"] = score.of
    if score.difference:
        plain["published_low"], plain["published_high"] = score.published_interval or unknown
        plain["difference_low"], plain["difference_high"] = score.difference
    return plain
