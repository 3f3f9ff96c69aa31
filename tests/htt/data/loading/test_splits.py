"""Validation held out of the training clips: in proportion, always the same clips, never used in training."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


clips_of = st.lists(st.integers(-1, 5), min_size=8, max_size=60)


def named(actions: list[int], alike: int) -> tuple[list[str], list[int], list[str]]:
    return (
        [f"clip-{place}" for place in range(len(actions))],
        actions,
        [f"group-{place // alike}" for place in range(len(actions))],
    )


def chosen_or_none(clips: tuple[list[str], list[int], list[str]], share: float) -> list[int] | None:
    try:
        return splits.choose_labelled(*clips, share)
    except DataError:
        return None


@given(actions=clips_of, share=st.floats(0.01, 0.99), more=st.floats(0.01, 0.99), alike=st.integers(1, 4))
def test_choose_labelled_is_nested_and_keeps_groups_whole(
    actions: list[int], share: float, more: float, alike: int
) -> None:
    clips = named(actions, alike)
    small, large = (chosen_or_none(clips, each) for each in sorted((share, more)))
    assume(small is not None)
    assert small
    groups = clips[2]
    rest = set(range(len(actions))) - set(small)
    assert rest
    assert set(small) <= (set(range(len(actions))) if large is None else set(large))
    assert not {groups[clip] for clip in small} & {groups[clip] for clip in rest}
    assert {actions[clip] for clip in small} == set(actions)


@given(actions=clips_of, share=st.floats(0.01, 0.99))
def test_choose_labelled_takes_each_action_in_proportion(actions: list[int], share: float) -> None:
    """A second clip of an action is taken by the rule of Webster: no other action had a smaller part at that time."""
    small = chosen_or_none(named(actions, 1), share)
    assume(small is not None)
    assert small is not None
    size, taken = Counter(actions), Counter(actions[clip] for clip in small)
    assert len(small) == max(round(share * len(actions)), len(size))
    left = [(taken[each] + 0.5) / size[each] for each in size if taken[each] < size[each]]
    assert all((taken[each] - 0.5) / size[each] <= min(left) + 1e-12 for each in size if taken[each] > 1)


def test_choose_labelled_takes_a_tenth_of_each_action_and_a_pair_as_one() -> None:
    actions = [place // 2 % 36 for place in range(720)]  # 20 clips of each action, in pairs
    small = splits.choose_labelled(*named(actions, 2), 0.1)
    assert set(Counter(actions[clip] for clip in small).values()) == {2}


@given(actions=clips_of, share=st.floats(0.01, 0.99), alike=st.integers(1, 4), seed=st.integers(0, 99))
def test_choose_labelled_is_independent_of_order(actions: list[int], share: float, alike: int, seed: int) -> None:
    clips = named(actions, alike)
    small = chosen_or_none(clips, share)
    assume(small is not None)
    assert small is not None
    order = np.random.default_rng(seed).permutation(len(actions)).tolist()
    other = splits.choose_labelled(*([each[clip] for clip in order] for each in clips), share)  # type: ignore[arg-type]
    assert {order[clip] for clip in other} == set(small)


def test_choose_labelled_refuses_to_label_all_clips() -> None:
    said = (
        r"data\.labelled 0\.5 leaves no .* 3 clips in 3 groups, and each of 3 actions needs one\. Set data\.labelled=1"
    )
    with pytest.raises(DataError, match=said):
        splits.choose_labelled(*named([0, 1, 2], 1), 0.5)


KINDS = {"ignore": (False, False), "pseudo_labels": (False, False), "actions": (True, False), "poses": (False, True)}


@pytest.mark.parametrize("kind", KINDS)
def test_open_splits_hides_the_labels_of_other_clips(
    kind: Any, tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    records = [make_record(index, 3) for index in range(30)]
    root = write_shards(tmp_path, {"train": records, "val": [make_record(40, 2)], "test": [make_record(50, 2)]})
    config = DataConfig(labelled=0.5, unlabelled=kind)
    train, val = (found := splits.open_splits(root, config)).train, found.val
    assert 10 <= train.labelled.sum() <= 20
    for clip, whole in enumerate(records):
        known_action, known_hands = (True, True) if train.labelled[clip] else KINDS[kind]
        assert train.action[clip] == (whole.action if known_action else -1)
        assert train.object[clip] == (whole.object if known_action else -1)
        np.testing.assert_array_equal(train.hand_valid(clip), whole.hand_valid & known_hands)
        assert train.targets(clip).joint_valid.any() == (known_hands and whole.hand_valid.any())
        types = train.hand_types(clip)
        assert types is None or (types >= 0).any() == bool(train.labelled[clip])
        assert train.targets(clip).joints_m.any() == (known_hands and whole.hand_valid.any())
        assert train[clip].jpegs == whole.jpegs
    some = train.only([0, 29])
    assert some.labelled.tolist() == train.labelled[[0, 29]].tolist()
    assert [some[1].action, some[1].hand_valid.any()] == [train.action[29], train.hand_valid(29).any()]
    assert val is not None
    assert set(train.ids) == {record.id for record in records}  # no clip of another split
    for split in ("train", "val", "test"):  # an evaluation has all labels
        named_clips = splits.open_named(root, split, config)
        assert named_clips.labelled.all()
        assert (named_clips.action == splits.open_split(root, split).action).all()
    assert (val.labelled.all(), val.hand_valid(0).tolist()) == (True, make_record(40, 2).hand_valid.tolist())


def test_open_splits_chooses_labels_among_the_clips_that_are_not_held_out(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    root = write_shards(tmp_path, {"train": [make_record(index, 2) for index in range(30)]})
    found = splits.open_splits(root, DataConfig(held_out=0.2, labelled=0.5))
    assert found.val is not None
    assert found.val.labelled.all()
    assert 0 < found.train.labelled.sum() < len(found.train)
    assert not set(found.train.ids) & set(found.val.ids)
