"""What is read from tables of clips, old and new."""

import polars as pl

from htt.evaluation.clip_table import groups_of, values

CLIPS = {"clip": ["a", "b", "c"], "correct": [True, None, False], "hand_error_mm": [1.0, float("nan"), 3.0]}


def test_clip_table_values_omit_unknown_ones() -> None:
    clips = pl.DataFrame(CLIPS)
    assert values(clips, "action_accuracy") == {"a": 1.0, "c": 0.0}
    assert values(clips, "hand_error_mm") == {"a": 1.0, "c": 3.0}
    assert values(clips, "hand_auc") == values(pl.DataFrame(), "hand_error_mm") == {}


def test_clip_table_groups_default_to_the_clip() -> None:
    old, new = pl.DataFrame(CLIPS), pl.DataFrame({"clip": ["a", "b"], "group": ["r", "r"]})
    assert groups_of(["a", "b", "c"], [old]) == ["a", "b", "c"]
    assert groups_of(["c", "b", "a"], [new, old]) == groups_of(["c", "b", "a"], [old, new]) == ["c", "r", "r"]
