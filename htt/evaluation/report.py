"""Files of an evaluation: ``metrics.json``, ``per_clip.parquet``, ``early_action.csv``, ``report.md``, its figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from htt import files
from htt.config import DataConfig
from htt.errors import storage_errors
from htt.evaluation import figures, intervals
from htt.evaluation.metric_table import EARLY, METRICS, TIMES_MS
from htt.evaluation.scores import Score, Scores
from htt.text import NOTHING, code, escaped, plural

REPORT, METRICS_FILE, PER_CLIP = "report.md", "metrics.json", "per_clip.parquet"
PCK, CONFUSION, FORECAST = "pck.png", "confusion.png", "forecast.png"
EARLY_PNG, EARLY_CSV = "early_action.png", "early_action.csv"
MISTAKES = 10
NAMES = {"h2o": "H2O", "fpha": "FPHA", "synthetic": "the rendered benchmark"}
"""Display names of the sources."""


@dataclass(frozen=True)
class Provenance:
    """Origin of an evaluation's numbers."""

    checkpoint: str
    data: str
    command: str
    frames: int
    fingerprint: str
    """Fingerprint of the configuration."""
    labels: str = ""
    """Sentence on the labels of the training, or "" if it used all; see ``labels_used``."""


OTHERS = {
    "ignore": "the other clips are not used",
    "pseudo_labels": "the other clips have pseudo-labels of a moving-average teacher",
    "actions": "of the other clips, the actions and objects are used",
    "poses": "of the other clips, the hands are used",
}
"""``data.unlabelled`` -> its description."""


def labels_used(data: DataConfig) -> str:
    """Return a sentence on the labels that a training used; "" if it used all."""
    if data.labelled == 1:
        return ""
    return f"Trained with the labels of {100 * data.labelled:g} % of the training clips; {OTHERS[data.unlabelled]}."


def write(folder: Path, scores: Scores, per_clip: pl.DataFrame, about: Provenance) -> None:
    """Write all files into ``folder``, each atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    title = f"{NAMES.get(scores.source, scores.source)}, {scores.split} split"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / METRICS_FILE, json.dumps(scores.plain(), indent=2) + "\n")
    with files.replacing(folder / PER_CLIP) as path:
        per_clip.write_parquet(path)
    drawn = {}
    of_joints = {name: curve for name, curve in scores.curves.items() if name != EARLY}
    if of_joints:
        with files.replacing(folder / PCK) as path:
            figures.draw_pck(of_joints, f"Hand joints within a distance: {title}", path)
        drawn["## Joint errors"] = f"![joints within a distance]({PCK})"
    if EARLY in scores.curves:
        drawn["## Early action"] = _early(folder, scores, title)
    if scores.forecast:
        with files.replacing(folder / FORECAST) as path:
            figures.draw_forecast(scores.forecast, f"Forecast hands: {title}", path)
        drawn["## Forecast"] = _forecast(scores)
    counts = scores.confusion()
    if counts.any():
        with files.replacing(folder / CONFUSION) as path:
            figures.draw_confusion(counts, scores.actions, f"Confusion of actions: {title}", path)
        drawn["## Confusion of actions"] = f"![confusion of actions]({CONFUSION})\n\n{_mistakes(scores)}"
    files.write_text(folder / REPORT, _text(scores, about, title, drawn))


def heads(scores: Scores) -> list[str]:
    """Return the heads of the table of numbers."""
    published = "Published" if scores.comparable else "Published (whole split)"
    return ["Metric", "Value", "95 % interval", published]


def rows(scores: Scores) -> list[list[str]]:
    """Return the cells of the table of numbers: a row per metric, in the order of ``heads``."""
    known = {score.metric for score in scores.scores}
    missing = [name for name in scores.published if name not in known]
    return [_row(score) for score in scores.scores] + [
        [METRICS[name].title, "unknown", NOTHING, METRICS[name].number(scores.published[name])] for name in missing
    ]


def _row(score: Score) -> list[str]:
    about = METRICS[score.metric]
    count = f" ({round(score.value * score.of)}/{score.of})" if score.of else ""
    interval = about.span(*score.interval) if score.interval else NOTHING
    published = about.number(score.published) if score.published is not None else NOTHING
    return [about.title, about.number(score.value) + count, interval, published]


def _text(scores: Scores, about: Provenance, title: str, drawn: dict[str, str]) -> str:
    titles = heads(scores)
    table = [titles, ["---"] * len(titles), *rows(scores)]
    parts = [
        f"# {title}",
        code(about.command),
        f"Checkpoint {code(about.checkpoint)}, configuration {about.fingerprint}, data {code(about.data)}: "
        f"{intervals.sampled(len(scores.sums.clip), scores.groups)}, {plural(about.frames, 'frame')}."
        f"{about.labels and ' '}{about.labels}",
        *(f"**{warning}**" for warning in scores.warnings),
        "## Numbers",
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        _notes(scores),
        *_beside_published(scores),
    ]
    parts += [f"{head}\n\n{body}" for head, body in drawn.items()]
    return "\n\n".join(parts) + "\n"


def _notes(scores: Scores) -> str:
    notes = [_intervals(len(scores.sums.clip), scores.groups)]
    if people := intervals.people(scores.subjects):
        notes.append(people)
    if scores.published:
        notes.append("Published: HTT of Wen et al., CVPR 2023, on the whole split.")
    else:
        notes.append("HTT's authors published no numbers for this split.")
    labelled = int(scores.confusion().sum())
    if labelled:
        notes.append(f"One clip is {100 / labelled:.2f} points of action accuracy.")
    else:
        notes.append("The actions of this split are unknown; predict them with python -m htt.submit.")
    known = {score.metric for score in scores.scores}
    for what, metric in (("hands", "hand_error_mm"), ("objects", "object_accuracy")):
        if metric not in known and scores.sees_images:
            notes.append(f"The {what} of this split are not annotated: their metrics are unknown.")
    return "\n".join(f"- {note}" for note in notes)


def _intervals(clips: int, groups: int) -> str:
    """Return a sentence on the intervals and what they are over."""
    over = f"Intervals over {intervals.sampled(clips, groups)}"
    if groups == clips:
        return (
            f"{over}: Wilson's for the accuracy of clips; a percentile bootstrap over clips for other metrics, because "
            "the frames of a clip are similar."
        )
    if groups == 1:
        return (
            f"No intervals: the {plural(clips, 'clip')} are all of one group (one recording, or one motion), and say "
            "nothing of others."
        )
    return (
        f"{over}: clips of a group (one recording, or one motion) are alike, so groups are drawn in a percentile "
        "bootstrap, and the accuracy of clips has Wilson's interval of their effective number."
    )


def _beside_published(scores: Scores) -> list[str]:
    """Return sentences that compare the numbers with the published ones; empty if those are of other clips."""
    if not scores.published or not scores.comparable:
        return []
    lines = [
        f"- {METRICS[score.metric].title}: {_compared(score)}"
        for score in scores.scores
        if score.published is not None and score.interval
    ]
    if not lines:
        return []
    alike = ""
    if scores.groups < len(scores.sums.clip):
        alike = " Its clips are in the same groups, so its errors are taken to be as alike within a group as ours."
    return [
        "## Comparison with the published numbers",
        "A published number has a sampling error, too. For an accuracy it follows from the counts, and the interval of "
        "the difference is that of two independent samples (Newcombe 1998). A paired interval could be narrower, "
        "because both models were evaluated on the same clips, but the predictions of the published model are not "
        f"published.{alike} For the other metrics, only whether the published number lies in our interval is known; "
        "two numbers may differ even if it does.",
        "\n".join(lines),
    ]


def _compared(score: Score) -> str:
    about = METRICS[score.metric]
    low, high = score.interval or (np.nan, np.nan)
    published = about.number(float(score.published or 0.0))
    if score.difference and score.published_interval:
        least, most = score.difference
        zero = "includes zero: no difference is shown" if least <= 0 <= most else "excludes zero"
        return (
            f"published {published} ({about.span(*score.published_interval)}); ours less published "
            f"{_points(score.value - float(score.published or 0.0))} points ({_points(least)} to {_points(most)}). The "
            f"interval {zero}."
        )
    inside = "inside" if low <= float(score.published or 0.0) <= high else "outside"
    return f"published {published}, {inside} our interval; the error of the published number is unknown."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _early(folder: Path, scores: Scores, title: str) -> str:
    """Write the figure and the table of the accuracy over the observed share, and return them as text."""
    curve, accuracy = scores.curves[EARLY], METRICS["action_accuracy"]
    with files.replacing(folder / EARLY_PNG) as path:
        figures.draw_early(curve, f"Early action: {title}", path)
    with files.replacing(folder / EARLY_CSV) as path:
        pl.DataFrame(curve).rename({"fraction": "accuracy"}).write_csv(path)
    ends = zip(curve["low"], curve["high"], strict=True) if "low" in curve else [None] * len(curve["share"])
    cells = [
        [f"{100 * share:.0f} %", accuracy.number(value), accuracy.span(*end) if end else NOTHING]
        for share, value, end in zip(curve["share"], curve["fraction"], ends, strict=True)
    ]
    table = [["Observed share", accuracy.title, "95 % interval"], ["---"] * 3, *cells]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in table)
    return (
        "Accuracy if each clip ends after a share of its frames, rounded up to whole frames. Its windows of block A "
        "lose their later frames, and those without an earlier one do not vote. Nothing uses a later frame, block P "
        f"included. Each share has its own interval. The same numbers are in {EARLY_CSV}.\n\n"
        f"![action accuracy over the observed share]({EARLY_PNG})\n\n{lines}"
    )


def _forecast(scores: Scores) -> str:
    """Return what the errors of the forecast are compared with."""
    times = [time_ms for time_ms in TIMES_MS if any(f"_{time_ms}ms_" in score.metric for score in scores.scores)]
    absent = [f"{time_ms / 1000:g} s" for time_ms in TIMES_MS if time_ms not in times]
    missing = (
        f" There are no numbers at {', '.join(absent)}: the forecast ends before, or a frame of the clips is not at "
        "that time."
    )
    return (
        f"![error of forecast hands over the time ahead]({FORECAST})\n\n"
        "A forecast is made at every frame, from this frame and those before it, for every later frame that its clip "
        "has and that has labels. Both baselines start from the model's own hands of that frame, seen without later "
        "frames, as a user would compute them. Each frame ahead is in the camera space of its own frame, so the motion "
        f"of the camera is part of what is forecast.{missing if absent else ''}"
    )


def _mistakes(scores: Scores) -> str:
    """Return the most frequent mistakes as a table."""
    wrong = scores.confusion()
    np.fill_diagonal(wrong, 0)
    order: Sequence[int] = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES].tolist()
    pairs = [divmod(place, len(scores.actions)) for place in order]
    listed = [
        f"| {escaped(scores.actions[row])} | {escaped(scores.actions[column])} | {wrong[row, column]} |"
        for row, column in pairs
        if wrong[row, column]
    ]
    if not listed:
        return "No action was confused with another."
    return "\n".join(
        ["The most frequent mistakes:", "", "| true | predicted | clips |", "| --- | --- | --- |", *listed]
    )
