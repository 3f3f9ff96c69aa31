"""Table of an evaluation's clips: group, label, prediction and errors of each. Imports no torch.

A checkpoint keeps the table of the validation clips (``FILE``), so that two trainings can be compared clip by
clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from htt.evaluation.metric_table import EARLY
from htt.evaluation.sums import SHARES, VOTES, ClipSums, early_area
from htt.info import UNKNOWN

if TYPE_CHECKING:
    from htt.data.loading.clips import Clips

FILE = "clips.parquet"
"""Name of the table in a checkpoint."""
_OF_CLIPS = {"action_accuracy": "correct", "action_accuracy_hard": "correct_hard"}
"""{metric: column}, if the names differ."""


def of_split(sums: ClipSums, clips: Clips) -> pl.DataFrame:
    """Return the table of an evaluation of these clips; see ``table``."""
    objects = [clips.info.objects[each] if each != UNKNOWN else "" for each in clips.object.tolist()]
    return table(sums, clips.info.actions, clips.ids, clips.subjects, objects, clips.groups)


def table(
    sums: ClipSums,
    actions: Sequence[str],
    ids: Sequence[str],
    subjects: Sequence[str],
    objects: Sequence[str],
    groups: Sequence[str] = (),
) -> pl.DataFrame:
    """Return a table with one row per clip.

    Args:
        sums: sums of the evaluation.
        actions: names of all actions.
        ids: ids of all clips of the split.
        subjects: subjects of all clips of the split.
        objects: object of each clip, or "" if it has none.
        groups: group of each clip; if empty, each clip is its own.
    """
    each = sums.hand_metrics(np.eye(len(sums.clip)))
    predicted, known = {vote: sums.actions(vote) for vote in VOTES.values()}, sums.label != UNKNOWN
    columns: dict[str, Any] = {
        "clip": [ids[clip] for clip in sums.clip],
        "subject": [subjects[clip] for clip in sums.clip],
        "group": [(groups or ids)[clip] for clip in sums.clip],
        "object": [objects[clip] or None for clip in sums.clip],
        "windows": sums.windows,
        "action": [actions[label] if label != UNKNOWN else None for label in sums.label],
        "predicted": [actions[action] for action in predicted["soft"]],
        "predicted_hard": [actions[action] for action in predicted["hard"]],
        "probability": sums.soft.max(axis=1) / sums.windows,
    }
    for suffix, vote in (("", "soft"), ("_hard", "hard")):
        correct = predicted[vote] == sums.label
        columns[f"correct{suffix}"] = [bool(one) if has else None for one, has in zip(correct, known, strict=True)]
    early = sums.early_correct()
    if early is not None:
        each[EARLY] = np.full(len(known), np.nan)
        each[EARLY][known] = early_area(early)
        hits = iter(early.tolist())
        right = [next(hits) if has else None for has in known]
        columns["correct_early"] = pl.Series(right, dtype=pl.Array(pl.Boolean, len(SHARES)))
    frame = pl.DataFrame({**columns, **each}, strict=False)
    return frame.with_columns(pl.col(list(each)).fill_nan(None))


def values(clips: pl.DataFrame, metric: str) -> dict[str, float]:
    """Return {clip: value of the metric} where it is finite; empty if the table does not have the metric."""
    column = _OF_CLIPS.get(metric, metric)
    if not {"clip", column} <= {*clips.columns}:
        return {}
    finite = clips.select("clip", pl.col(column).cast(pl.Float64)).filter(pl.col(column).is_finite())
    return dict(finite.iter_rows())


def groups_of(clips: Sequence[str], tables: Iterable[pl.DataFrame]) -> list[str]:
    """Return the group of each clip; a clip of tables made before there were groups is its own."""
    known: dict[str, str] = {}
    for each in tables:
        if {"clip", "group"} <= {*each.columns}:
            known.update(each.select("clip", "group").iter_rows())
    return [known.get(clip, clip) for clip in clips]
