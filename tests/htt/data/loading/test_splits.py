"""Validation held out of the training clips: in proportion, always the same clips, never used in training."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from htt.config import DataConfig
from htt.data.loading import splits
from htt.data.shards import manifest
from htt.data.sources import ClipRecord
from htt.errors import DataError


def opened(root: Path, held_out: float) -> splits.Splits:
    return splits.open_splits(root, DataConfig(held_out=held_out))


@pytest.fixture
def without_val(tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]) -> Path:
    """Ten training clips in several shards, two test clips."""
    return write_shards(
        tmp_path,
        {"train": [make_record(index, 3) for index in range(10)], "test": [make_record(90, 2), make_record(91, 2)]},
    )


def test_hold_out_takes_share_of_each_action() -> None:
    actions = [action for action in range(45) for _ in range(20)]
    ids = [f"Subject_1/a{action}/{place}" for place, action in enumerate(actions)]
    kept, held = splits.hold_out(ids, actions, ids, 0.1)
    assert len(held) == 90
    assert set(Counter(actions[clip] for clip in held).values()) == {2}
    assert sorted(kept + held) == list(range(900))


@given(
    actions=st.lists(st.integers(-1, 5), min_size=2, max_size=40),
    share=st.floats(0.01, 0.99),
    alike=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_hold_out_is_independent_of_order(actions: list[int], share: float, alike: int, seed: int) -> None:
    ids = [f"clip-{place}" for place in range(len(actions))]
    groups = [f"group-{place // alike}" for place in range(len(actions))]
    assume(len(set(groups)) > 1)
    kept, held = splits.hold_out(ids, actions, groups, share)
    assert kept
    assert held
    assert sorted(kept + held) == list(range(len(ids)))
    order = np.random.default_rng(seed).permutation(len(ids)).tolist()
    _, other = splits.hold_out(*([each[clip] for clip in order] for each in (ids, actions, groups)), share)
    assert {ids[order[clip]] for clip in other} == {ids[clip] for clip in held}
    assert not {groups[clip] for clip in kept} & {groups[clip] for clip in held}
    assert abs(len(held) - share * len(ids)) < alike + 1


def test_open_splits_excludes_held_out_clips_from_training(without_val: Path) -> None:
    found = opened(without_val, 0.3)
    assert found.val is not None
    assert (len(found.train), len(found.val)) == (6, 4)  # two groups of two clips
    assert not set(found.train.ids) & set(found.val.ids)
    assert set(found.train.ids) | set(found.val.ids) == {f"clip-{index}" for index in range(10)}


def test_open_named_keeps_frames_and_labels_of_held_out_clips(
    without_val: Path, make_record: Callable[..., ClipRecord]
) -> None:
    val = splits.open_named(without_val, "val", DataConfig(held_out=0.3))
    for place, record in enumerate(val):
        whole = make_record(int(record.id.removeprefix("clip-")), 3)
        assert (record.action, record.object, record.jpegs) == (whole.action, whole.object, whole.jpegs)
        np.testing.assert_array_equal(record.joints_m, whole.joints_m)
        np.testing.assert_array_equal(val.intrinsics[place], whole.intrinsics)


def test_open_splits_trains_on_all_clips_if_none_is_held_out(without_val: Path) -> None:
    found = opened(without_val, 0.0)
    assert len(found.train) == 10
    assert found.val is None
    with pytest.raises(DataError, match=r"No split 'val' in the data\. Available: train, test"):
        splits.open_named(without_val, "val", DataConfig(held_out=0.0))


def test_open_splits_uses_given_validation_split(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    root = write_shards(tmp_path, {"train": [make_record(0, 2), make_record(1, 2)], "val": [make_record(2, 2)]})
    found = opened(root, 0.5)
    assert found.val is not None
    assert (found.train.ids, found.val.ids) == (["clip-0", "clip-1"], ["clip-2"])
    splits.check_validation(root, DataConfig(held_out=0.0))


def test_incomplete_names_splits_with_missing_clips(without_val: Path) -> None:
    """Check two of three test clips, with complete training clips, of which validation is a part."""
    found, of = manifest.read(without_val), manifest.Wanted
    listed = {
        "train": [of(id=f"c{i}", first=0, frames=3) for i in range(10)],
        "test": [of(id="c", first=0, frames=2)] * 2,
    }
    manifest.write(without_val, found.model_copy(update={"wanted": listed}))
    assert splits.incomplete(without_val, DataConfig(held_out=0.3), "train", "val", "test") == []
    wanted = {**listed, "test": [*listed["test"], of(id="gone", first=0, frames=7)]}
    manifest.write(without_val, found.model_copy(update={"wanted": wanted}))
    (said,) = splits.incomplete(without_val, DataConfig(held_out=0.3), "train", "val", "test")
    assert said.startswith("Incomplete data: split 'test' has 2 of 3 clips and 4 of 11 frames, so")
    lost = {**listed, "train": [*listed["train"], of(id="gone", first=0, frames=7)]}
    manifest.write(without_val, found.model_copy(update={"wanted": lost}))
    there = splits.coverage(without_val, "val", DataConfig(held_out=0.3))
    assert (there.split, there.clips, there.wanted_clips, there.complete) == ("train", 10, 11, False)


def test_check_validation_refuses_data_without_validation(without_val: Path) -> None:
    splits.check_validation(without_val, DataConfig(held_out=0.1))
    with pytest.raises(DataError, match=r"no split 'val' and data\.held_out is 0.*--set data\.held_out=0\.1"):
        splits.check_validation(without_val, DataConfig(held_out=0.0))


@pytest.mark.parametrize("clips", [1, 3])
def test_hold_out_refuses_a_single_group(clips: int) -> None:
    said = rf"expected 2 or more groups of clips, got 1 with {clips} clips?\. Set data\.held_out=0"
    with pytest.raises(DataError, match=said):
        splits.hold_out([f"clip-{place}" for place in range(clips)], [0] * clips, ["a"] * clips, 0.5)
