"""Table of an evaluation's clips: label, prediction and errors of each. Imports no torch.

A checkpoint keeps the table of the validation clips (``clips.parquet``), so that two trainings can be compared clip by
clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from htt.evaluation.sums import Tally
from htt.info import UNKNOWN

if TYPE_CHECKING:
    from htt.data.loading.clips import Clips


def of_split(tally: Tally, clips: Clips) -> pl.DataFrame:
    """Return the table of an evaluation of these clips; see ``table``."""
    objects = [clips.info.objects[each] if each != UNKNOWN else "" for each in clips.object.tolist()]
    return table(tally, clips.info.actions, clips.ids, clips.subjects, objects)


def table(
    tally: Tally, actions: Sequence[str], ids: Sequence[str], subjects: Sequence[str], objects: Sequence[str]
) -> pl.DataFrame:
    """Return a table with one row per clip.

    Args:
        tally: sums of the evaluation.
        actions: names of all actions.
        ids: ids of all clips of the split.
        subjects: subjects of all clips of the split.
        objects: object of each clip, or "" if it has none.
    """
    each = tally.hand_metrics(np.eye(len(tally.clip)))
    chosen, known = {vote: tally.actions(vote) for vote in ("soft", "hard")}, tally.label != UNKNOWN
    columns: dict[str, Any] = {
        "clip": [ids[clip] for clip in tally.clip],
        "subject": [subjects[clip] for clip in tally.clip],
        "object": [objects[clip] or None for clip in tally.clip],
        "windows": tally.windows,
        "action": [actions[label] if label != UNKNOWN else None for label in tally.label],
        "predicted": [actions[action] for action in chosen["soft"]],
        "predicted_hard": [actions[action] for action in chosen["hard"]],
        "probability": tally.soft.max(axis=1) / tally.windows,
    }
    for suffix, vote in (("", "soft"), ("_hard", "hard")):
        right = chosen[vote] == tally.label
        columns[f"correct{suffix}"] = [bool(one) if there else None for one, there in zip(right, known, strict=True)]
    frame = pl.DataFrame({**columns, **each}, strict=False)
    return frame.with_columns(pl.col(list(each)).fill_nan(None))
