"""Table of an evaluation's clips: label, prediction and errors of each. Imports no torch.

A checkpoint keeps the table of the validation clips (``FILE``), so that two trainings can be compared clip by
clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from htt.evaluation.sums import VOTES, ClipSums
from htt.info import UNKNOWN

if TYPE_CHECKING:
    from htt.data.loading.clips import Clips

FILE = "clips.parquet"
"""Name of the table in a checkpoint."""


def of_split(sums: ClipSums, clips: Clips) -> pl.DataFrame:
    """Return the table of an evaluation of these clips; see ``table``."""
    objects = [clips.info.objects[each] if each != UNKNOWN else "" for each in clips.object.tolist()]
    return table(sums, clips.info.actions, clips.ids, clips.subjects, objects)


def table(
    sums: ClipSums, actions: Sequence[str], ids: Sequence[str], subjects: Sequence[str], objects: Sequence[str]
) -> pl.DataFrame:
    """Return a table with one row per clip.

    Args:
        sums: sums of the evaluation.
        actions: names of all actions.
        ids: ids of all clips of the split.
        subjects: subjects of all clips of the split.
        objects: object of each clip, or "" if it has none.
    """
    each = sums.hand_metrics(np.eye(len(sums.clip)))
    predicted, known = {vote: sums.actions(vote) for vote in VOTES.values()}, sums.label != UNKNOWN
    columns: dict[str, Any] = {
        "clip": [ids[clip] for clip in sums.clip],
        "subject": [subjects[clip] for clip in sums.clip],
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
    frame = pl.DataFrame({**columns, **each}, strict=False)
    return frame.with_columns(pl.col(list(each)).fill_nan(None))
