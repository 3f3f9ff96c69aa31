"""Files of an evaluation: ``metrics.json``, ``per_clip.parquet``, ``report.md`` and its two figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from htt import files
from htt.errors import storage_errors
from htt.evaluation import figures, intervals
from htt.evaluation.metric_table import METRICS
from htt.evaluation.scores import Score, Scores
from htt.text import code, escaped, plural

REPORT, METRICS_FILE, PER_CLIP = "report.md", "metrics.json", "per_clip.parquet"
PCK, CONFUSION = "pck.png", "confusion.png"
MISTAKES = 10
NOTHING = "–"
NAMES = {"h2o": "H2O", "fpha": "FPHA", "synthetic": "the rendered benchmark"}
"""Display names of the sources."""


@dataclass(frozen=True)
class Evaluated:
    """Description of an evaluation, as text."""

    checkpoint: str
    data: str
    command: str
    frames: int
    fingerprint: str
    """Fingerprint of the configuration."""


def write(folder: Path, evaluated: Scores, per_clip: pl.DataFrame, about: Evaluated) -> None:
    """Write all files into ``folder``, each atomically.

    Raises:
        StorageError: the disk is full or not writable.
    """
    title = f"{NAMES.get(evaluated.source, evaluated.source)}, {evaluated.split} split"
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files.write_text(folder / METRICS_FILE, json.dumps(evaluated.plain(), indent=2) + "\n")
    with files.replacing(folder / PER_CLIP) as path:
        per_clip.write_parquet(path)
    drawn = {}
    if evaluated.curves:
        with files.replacing(folder / PCK) as path:
            figures.draw_pck(evaluated.curves, f"Hand joints found within a distance: {title}", path)
        drawn["## How near the joints are"] = f"![joints within a distance]({PCK})"
    counts = evaluated.confusion()
    if counts.any():
        with files.replacing(folder / CONFUSION) as path:
            figures.draw_confusion(counts, evaluated.actions, f"Actions taken for others: {title}", path)
        drawn["## Which actions are taken for which"] = (
            f"![confusion of actions]({CONFUSION})\n\n{_mistakes(evaluated)}"
        )
    files.write_text(folder / REPORT, _text(evaluated, about, title, drawn))


def heads(evaluated: Scores) -> list[str]:
    """Return the heads of the table of numbers."""
    published = "Published" if evaluated.comparable else "Published (whole split)"
    return ["Metric", "Value", "95 % interval", published]


def rows(evaluated: Scores) -> list[list[str]]:
    """Return the cells of the table of numbers: a row per metric, in the order of ``heads``."""
    known = {score.metric for score in evaluated.scores}
    missing = [name for name in evaluated.published if name not in known]
    return [_row(score) for score in evaluated.scores] + [
        [METRICS[name].title, "not known here", NOTHING, METRICS[name].number(evaluated.published[name])]
        for name in missing
    ]


def _row(score: Score) -> list[str]:
    about = METRICS[score.metric]
    count = f" ({round(score.value * score.of)}/{score.of})" if score.of else ""
    interval = about.span(*score.interval) if score.interval else NOTHING
    published = about.number(score.published) if score.published is not None else NOTHING
    return [about.title, about.number(score.value) + count, interval, published]


def _text(evaluated: Scores, about: Evaluated, title: str, drawn: dict[str, str]) -> str:
    titles = heads(evaluated)
    table = [titles, ["---"] * len(titles), *rows(evaluated)]
    parts = [
        f"# {title}",
        code(about.command),
        f"Checkpoint {code(about.checkpoint)}, configuration {about.fingerprint}, data {code(about.data)}: "
        f"{plural(len(evaluated.tally.clip), 'clip')}, {plural(about.frames, 'frame')}.",
        *(f"**{warning}**" for warning in evaluated.warnings),
        "## Numbers",
        "\n".join(f"| {' | '.join(cells)} |" for cells in table),
        _notes(evaluated),
        *_beside_published(evaluated),
    ]
    parts += [f"{head}\n\n{body}" for head, body in drawn.items()]
    return "\n\n".join(parts) + "\n"


def _notes(evaluated: Scores) -> str:
    notes = [
        "Intervals: of the accuracy of clips, Wilson's; of all else, over clips drawn anew (percentile bootstrap), for "
        "the frames of a clip resemble one another.",
    ]
    if said := intervals.people(evaluated.subjects):
        notes.append(said)
    if evaluated.published:
        notes.append("Published: HTT of Wen et al., CVPR 2023, on the whole split.")
    else:
        notes.append("HTT's authors published nothing for this split.")
    labelled = int(evaluated.confusion().sum())
    if labelled:
        notes.append(f"One clip is {100 / labelled:.2f} points of action accuracy.")
    else:
        notes.append("The actions of this split are not known: they are predicted alone (python -m htt.submit).")
    known = {score.metric for score in evaluated.scores}
    for what, metric in (("hands", "hand_error_mm"), ("objects", "object_accuracy")):
        if metric not in known:
            notes.append(f"The {what} of this split are not annotated: nothing is said of them.")
    return "\n".join(f"- {note}" for note in notes)


def _beside_published(evaluated: Scores) -> list[str]:
    """Return sentences that compare the numbers with the published ones; empty if those are of other clips."""
    if not evaluated.published or not evaluated.comparable:
        return []
    lines = [
        f"- {METRICS[score.metric].title}: {_compared(score)}"
        for score in evaluated.scores
        if score.published is not None and score.interval
    ]
    if not lines:
        return []
    return [
        "## Beside the published numbers",
        "A published number has a sampling error of its own. For an accuracy it follows from the counts, and the "
        "interval of the difference is that of two independent samples (Newcombe 1998). Both models were evaluated on "
        "the same clips, and which clips the published one named rightly is not published: a paired interval cannot be "
        "computed, and could be narrower. For the other metrics only this can be said: whether the published number "
        "lies in the interval of ours. If it does, the two may still differ.",
        "\n".join(lines),
    ]


def _compared(score: Score) -> str:
    about = METRICS[score.metric]
    low, high = score.interval or (np.nan, np.nan)
    published = about.number(float(score.published or 0.0))
    if score.difference and score.published_interval:
        least, most = score.difference
        zero = "includes zero: no difference is shown" if least <= 0 <= most else "leaves out zero"
        return (
            f"published {published} ({about.span(*score.published_interval)}); ours less published "
            f"{_points(score.value - float(score.published or 0.0))} points ({_points(least)} to {_points(most)}). The "
            f"interval {zero}."
        )
    inside = "inside" if low <= float(score.published or 0.0) <= high else "outside"
    return f"published {published}, {inside} our interval; the error of the published number is not known."


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _mistakes(evaluated: Scores) -> str:
    """Return the most frequent mistakes as a table."""
    wrong = evaluated.confusion()
    np.fill_diagonal(wrong, 0)
    order: Sequence[int] = np.argsort(-wrong, axis=None, kind="stable")[:MISTAKES].tolist()
    pairs = [divmod(place, len(evaluated.actions)) for place in order]
    listed = [
        f"| {escaped(evaluated.actions[row])} | {escaped(evaluated.actions[column])} | {wrong[row, column]} |"
        for row, column in pairs
        if wrong[row, column]
    ]
    if not listed:
        return "No action was taken for another."
    return "\n".join(
        ["The most frequent mistakes:", "", "| true | predicted | clips |", "| --- | --- | --- |", *listed]
    )
