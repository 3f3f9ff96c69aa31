"""Shards: written clips are read back unchanged, and damage is reported."""

import dataclasses
import errno
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htt import files
from htt.config import Config, override
from htt.data.loading.clips import Clips, open_split
from htt.data.prepare import prepare
from htt.data.shards import arrow, manifest
from htt.data.sources import ClipRecord, Encoded
from htt.errors import DataError, StorageError

WIDTH, HEIGHT = 32, 24
Record = Callable[..., ClipRecord]
Write = Callable[..., Path]


@pytest.fixture(scope="module", name="record")
def _record(make_record: Record) -> Record:
    return make_record


@pytest.fixture(scope="module", name="write")
def _write(write_shards: Write) -> Write:
    return write_shards


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, record: Record, write: Write) -> Path:
    records = [record(index, frames) for index, frames in enumerate([7, 12, 1, 9, 30, 4])]
    return write(tmp_path_factory.mktemp("shards"), {"train": records, "val": records[:1]})


def assert_same(found: Any, expected: Any) -> None:
    for field in dataclasses.fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(one, Encoded):
            assert_same(one, other)
        elif isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def test_open_split_returns_written_clips(root: Path, record: Record) -> None:
    clips = open_split(root, "train")
    assert len(clips) == 6
    assert len(manifest.read(root).shards("train")) > 1
    assert manifest.read(root).count("train") == (6, 63)
    for index, frames in enumerate([7, 12, 1, 9, 30, 4]):
        assert clips.frame_count(index) == frames
        assert_same(clips[index], record(index, frames))
    assert clips.info.joints == 42
    assert clips.subjects[4] == "subject1"
    assert clips.groups == ["recording0", "recording0", "recording1", "recording1", "recording2", "recording2"]
    assert clips.only([5, 0]).groups == ["recording2", "recording0"]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("encoded", [True, False])
def test_shards_made_before_there_were_groups_are_read(
    tmp_path: Path, record: Record, write: Write, drop_groups: Callable[[Path], None], labelled: bool, encoded: bool
) -> None:
    """Each of their clips is its own group; all else is as it was."""
    records = [record(index, frames) for index, frames in enumerate([7, 12, 1])]
    if encoded:
        features = [
            Encoded(np.ones((2, len(each.jpegs), 5), np.float16), np.zeros((2, 2), np.float32)) for each in records
        ]
        records = [
            dataclasses.replace(each, jpegs=[], encoded=one) for each, one in zip(records, features, strict=True)
        ]
    write(tmp_path, {"train": records}, labelled=labelled)
    if encoded:
        made = manifest.read(tmp_path)
        how = manifest.Encoding(encoder="e", weights="w", views=1, width=5, key="0" * 64)
        manifest.write(tmp_path, made.model_copy(update={"encoding": how}))
    drop_groups(tmp_path)
    manifest.verify(tmp_path)
    clips = open_split(tmp_path, "train")
    clips.check_frames()
    assert clips.groups == clips.ids == ["clip-0", "clip-1", "clip-2"]
    assert arrow.knows_hands(tmp_path / "train-00000.arrow")
    for found, expected in zip(clips, records, strict=True):
        assert_same(found, dataclasses.replace(expected, group=found.id))


def test_clip_without_a_group_is_its_own(tmp_path: Path, record: Record, write: Write) -> None:
    records = [record(0, 3), dataclasses.replace(record(1, 3), group="")]
    clips = open_split(write(tmp_path, {"train": records}), "train")
    assert clips.groups == ["recording0", "clip-1"]


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), limit=st.integers(1, 20_000))
def test_open_split_round_trips_any_clips(
    tmp_path: Path, counts: list[int], limit: int, record: Record, write: Write
) -> None:
    records = [record(index, count) for index, count in enumerate(counts)]
    clips = open_split(write(tmp_path, {"any": records}, limit), "any")
    for found, expected in zip(clips, records, strict=True):
        assert_same(found, expected)


def test_decode_returns_requested_frames(root: Path, record: Record) -> None:
    frames = open_split(root, "train").decode(4, [29, 0, 7])
    assert frames.shape == (3, 3, HEIGHT, WIDTH)
    for image, index in zip(frames, [29, 0, 7], strict=True):
        expected = simplejpeg.decode_jpeg(record(4, 30).jpegs[index])
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_clips_pickle_after_use(root: Path) -> None:
    clips = open_split(root, "train")
    clips.decode(1, [0])
    again: Clips = pickle.loads(pickle.dumps(clips))
    assert_same(again[3], clips[3])


def test_shards_of_same_clips_have_same_bytes(root: Path, tmp_path: Path, record: Record, write: Write) -> None:
    records = [record(index, frames) for index, frames in enumerate([7, 12, 1, 9, 30, 4])]
    again = manifest.read(write(tmp_path, {"train": records, "val": records[:1]}))
    assert again == manifest.read(root)


def test_open_split_refuses_missing_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist.*python -m htt\.data\.convert"):
        open_split(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="has none"):
        open_split(tmp_path, "train")


def test_open_split_refuses_unknown_split(root: Path) -> None:
    with pytest.raises(DataError, match=r"No split 'vall' in the data. Available: train, val. Did you mean 'val'\?"):
        open_split(root, "vall")


@pytest.mark.parametrize("text", ["", "{", '{"source": 3}'])
def test_open_split_refuses_invalid_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"Invalid manifest .*manifest\.json: "):
        open_split(tmp_path, "train")


def test_open_split_refuses_manifest_of_another_version(root: Path, tmp_path: Path) -> None:
    manifest.write(tmp_path, manifest.read(root).model_copy(update={"schema_version": 99}))
    with pytest.raises(DataError, match="expected version 2 or 3, got 99"):
        open_split(tmp_path, "train")
    fields = json.loads((root / manifest.NAME).read_text())
    del fields["wanted"]  # as the version before had none
    (tmp_path / manifest.NAME).write_text(json.dumps({**fields, "schema_version": 1}))
    with pytest.raises(DataError, match=r"expected version 2 or 3, got 1\. Convert the data again"):
        open_split(tmp_path, "train")


def test_manifest_numbers_are_the_expected_frames(root: Path) -> None:
    assert manifest.read(root).numbers("val") == {"clip-0": range(10, 29)}


@pytest.fixture
def broken(tmp_path: Path, record: Record, write: Write) -> Callable[[Callable[[bytes], bytes]], Path]:
    """Return a function that writes shards of one clip of five frames and changes the file."""

    def spoil(change: Callable[[bytes], bytes]) -> Path:
        write(tmp_path, {"train": [record(0, 5)]})
        file = tmp_path / "train-00000.arrow"
        file.write_bytes(change(file.read_bytes()))
        return tmp_path

    return spoil


def test_verify_names_shard_and_both_checksums(broken: Callable[..., Path]) -> None:
    root = broken(lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:])
    expected = manifest.read(root).shards("train")[0].sha256
    found = files.sha256(root / "train-00000.arrow")
    with pytest.raises(
        DataError, match=rf"train-00000\.arrow has sha256 {found}, not {expected} as in its manifest.*again"
    ):
        manifest.verify(root)


def test_verify_accepts_undamaged_shards(root: Path) -> None:
    assert manifest.verify(root) == manifest.read(root)


def test_open_split_refuses_truncated_or_missing_shard(broken: Callable[..., Path]) -> None:
    root = broken(lambda data: data[:-100])
    with pytest.raises(DataError, match=r"train-00000\.arrow has \d+ bytes, not \d+"):
        open_split(root, "train")
    (root / "train-00000.arrow").unlink()
    with pytest.raises(DataError, match=r"train-00000\.arrow is missing"):
        open_split(root, "train")


def test_decode_refuses_shard_that_is_no_arrow_file(broken: Callable[..., Path]) -> None:
    root = broken(lambda data: b"x" * len(data))
    clips = open_split(root, "train")
    with pytest.raises(DataError, match=r"Invalid shard .*train-00000\.arrow: "):
        clips.decode(0, [0])


def test_decode_names_clip_and_frame_of_truncated_jpeg(tmp_path: Path, record: Record, write: Write) -> None:
    whole = record(0, 5)
    spoilt = [*whole.jpegs[:2], whole.jpegs[2][:-200], *whole.jpegs[3:]]
    clips = open_split(write(tmp_path, {"train": [dataclasses.replace(whole, jpegs=spoilt)]}), "train")
    assert clips.decode(0, [0, 1, 3]).shape[0] == 3
    with pytest.raises(DataError, match=r"frame 16 of clip clip-0 in .*train-00000\.arrow: "):
        clips.decode(0, [1, 2])


def test_decode_refuses_jpeg_of_another_size(tmp_path: Path, record: Record, write: Write) -> None:
    whole = record(0, 2)
    small = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    clips = open_split(write(tmp_path, {"train": [dataclasses.replace(whole, jpegs=[small, small])]}), "train")
    with pytest.raises(DataError, match="it is 8x8 px, not 32x24"):
        clips.decode(0, [0])


def test_open_split_refuses_clip_without_frames(tmp_path: Path, record: Record, write: Write) -> None:
    empty = dataclasses.replace(
        record(7, 1),
        frame_numbers=[],
        jpegs=[],
        joints_m=np.zeros((0, 42, 3), np.float32),
        hand_valid=np.zeros((0, 2), bool),
    )
    write(tmp_path, {"train": [record(0, 2), empty]})
    with pytest.raises(DataError, match=r"split train: clip clip-7: invalid number of frames 0\. Convert"):
        open_split(tmp_path, "train")


def test_shard_writer_leaves_no_file_on_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record, write: Write
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        write(tmp_path, {"train": [record(0, 2)]})
    assert list(tmp_path.iterdir()) == []


HOSTILE_NAMES = (
    "../../.ssh/authorized_keys",
    "/etc/passwd",
    "sub/train.arrow",
    "..\\train.arrow",
    "C:train.arrow",
    "..arrow",
    ".train.arrow",
    "train\n.arrow",
    "train.arrow\n",
    "train\x00.arrow",
    "manifest.json",
    "origin.json",
    "train",
    "",
    f"{'x' * 300}.arrow",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("where", ["labels", "shard", "split"])
def test_manifest_refuses_names_that_leave_the_folder(root: Path, tmp_path: Path, name: str, where: str) -> None:
    fields = json.loads((root / manifest.NAME).read_text())
    if where == "labels":
        fields["labels"]["file"] = name
    elif where == "shard":
        fields["splits"]["train"][0]["file"] = name
    else:
        fields["splits"][name if name != "train" else "/train"] = []
    (tmp_path / manifest.NAME).write_text(json.dumps(fields))
    with pytest.raises(DataError, match=r"Invalid manifest .*a name has 1 to 100 letters"):
        manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sha256": "../../x"}, r"splits\.train\.0\.sha256: String should match pattern"),
        ({"sha256": "A" * 64}, r"splits\.train\.0\.sha256: String should match pattern"),
        ({"bytes": -1}, r"splits\.train\.0\.bytes: Input should be greater than or equal to 0"),
        ({"clips": -1}, r"splits\.train\.0\.clips: Input should be greater than or equal to 0"),
    ],
)
def test_manifest_refuses_invalid_checksums_and_counts(
    root: Path, tmp_path: Path, change: dict[str, object], told: str
) -> None:
    fields = json.loads((root / manifest.NAME).read_text())
    fields["splits"]["train"][0].update(change)
    (tmp_path / manifest.NAME).write_text(json.dumps(fields))
    with pytest.raises(DataError, match=told):
        manifest.read(tmp_path)


def test_open_split_refuses_link_out_of_its_folder(broken: Callable[..., Path], tmp_path: Path) -> None:
    root = broken(lambda data: data)
    elsewhere = tmp_path.parent / "elsewhere.arrow"
    (root / "train-00000.arrow").rename(elsewhere)
    (root / "train-00000.arrow").symlink_to(elsewhere)
    with pytest.raises(DataError, match=r"train-00000\.arrow is a link to a file outside its folder"):
        open_split(root, "train")


Change = Callable[[ClipRecord], ClipRecord]


def with_intrinsics(row: int, column: int, value: float) -> Change:
    def change(clip: ClipRecord) -> ClipRecord:
        matrix = clip.intrinsics.copy()
        matrix[row, column] = value
        return dataclasses.replace(clip, intrinsics=matrix)

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda clip: dataclasses.replace(clip, action=4), "clip clip-1: action 4 is outside -1 to 3"),
        (lambda clip: dataclasses.replace(clip, action=-2), "clip clip-1: action -2 is outside -1 to 3"),
        (lambda clip: dataclasses.replace(clip, object=99), "clip clip-1: object 99 is outside -1 to 3"),
        (lambda clip: dataclasses.replace(clip, id="clip-0"), "clip clip-0: its id occurs twice"),
        (lambda clip: dataclasses.replace(clip, id="", group=""), "clip : its group is empty"),
        (with_intrinsics(0, 0, float("nan")), r"clip clip-1: intrinsics \[nan, .*\] are invalid"),
        (with_intrinsics(1, 1, float("inf")), r"clip clip-1: intrinsics \[.*inf.*\] are invalid"),
        (with_intrinsics(0, 0, 0.0), r"clip clip-1: intrinsics \[0.0, .*\] are invalid"),
        (with_intrinsics(2, 2, 2.0), r"clip clip-1: intrinsics \[.*2.0\] are invalid"),
    ],
)
@pytest.mark.parametrize("labelled", [True, False])
def test_open_split_refuses_labels_that_do_not_fit_the_manifest(
    tmp_path: Path, record: Record, write: Write, change: Change, told: str, labelled: bool
) -> None:
    write(tmp_path, {"train": [record(0, 2), change(record(1, 3))]}, labelled=labelled)
    with pytest.raises(
        DataError, match=rf"Labels do not match their manifest in .*{'labels.arrow' if labelled else tmp_path}.*{told}"
    ):
        open_split(tmp_path, "train")


def test_open_split_refuses_counts_that_differ_from_the_manifest(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    made = manifest.read(root)
    first, *rest = made.splits["train"]
    fewer = first.model_copy(update={"clips": first.clips - 1, "frames": first.frames + 2})
    manifest.write(tmp_path / "copy", made.model_copy(update={"splits": {**made.splits, "train": [fewer, *rest]}}))
    with pytest.raises(DataError, match=r"6 clips, but 5 in the manifest; 63 frames, but 65 in the manifest"):
        open_split(tmp_path / "copy", "train")


def _swapped(clip: ClipRecord) -> ClipRecord:
    return dataclasses.replace(clip, frame_numbers=clip.frame_numbers[::-1])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda clip: dataclasses.replace(clip, width=64), "its width is 64, not 32"),
        (lambda clip: dataclasses.replace(clip, height=25), "its height is 25, not 24"),
        (lambda clip: dataclasses.replace(clip, hand_valid=clip.hand_valid[:, :1]), "its hands is 1, not 2"),
        (lambda clip: dataclasses.replace(clip, joints_m=clip.joints_m[:, :21]), "its images, numbers, hands and"),
        (lambda clip: dataclasses.replace(clip, frame_numbers=[10, 13]), "its images, numbers, hands and joints are"),
        (
            lambda clip: dataclasses.replace(clip, hand_valid=2 * clip.hand_valid + 1),
            "hand_valid must be 0 or 1, not 3",
        ),
        (_swapped, "its frame numbers are not ascending"),
    ],
)
def test_prepare_refuses_frames_that_do_not_fit_the_manifest(
    tmp_path: Path, record: Record, write: Write, change: Change, told: str
) -> None:
    """Check the refusal before a training starts, and again when the clip is read."""
    root = write(tmp_path / "shards", {"train": [record(0, 2), change(record(1, 3))]})
    message = rf"Clip clip-1 in .*train-00000\.arrow does not match its manifest and labels: {told}"
    config = override(Config(), {"data.source": "noise", "data.root": str(root), "runtime.cache": str(tmp_path)})
    with pytest.raises(DataError, match=message):
        prepare(config)
    with pytest.raises(DataError, match=message):
        open_split(root, "train").targets(1)


def test_targets_refuse_frames_outside_the_manifest(tmp_path: Path, record: Record, write: Write) -> None:
    clips = write(tmp_path, {"train": [record(0, 3)]})
    made = manifest.read(clips)
    wanted = [made.wanted["train"][0].model_copy(update={"first": 11})]
    manifest.write(clips, made.model_copy(update={"wanted": {"train": wanted}}))
    with pytest.raises(DataError, match="its frames are 10 to 16, not 11 to 17"):
        open_split(clips, "train").targets(0)


MUTATE = """
import random, sys
from pathlib import Path
from htt.data.shards import manifest
from htt.data.loading.clips import open_split
from htt.errors import DataError

root, name = Path(sys.argv[1]), sys.argv[2]
whole, outcomes = (root / name).read_bytes(), set()
for seed in range(int(sys.argv[3])):
    draw, spoilt = random.Random(seed), bytearray(whole)
    for _ in range(draw.choice([1, 1, 2, 4])):
        at = draw.choice([draw.randrange(min(len(spoilt), 2500)), len(spoilt) - 1 - draw.randrange(2500)])
        spoilt[at] = draw.choice([0, 255, 127, 128, spoilt[at] ^ (1 << draw.randrange(8)), draw.randrange(256)])
    (root / name).write_bytes(spoilt)
    try:
        clips = open_split(root, "train")
        clips.check_frames()
        for clip in range(len(clips)):
            clips.targets(clip), clips[clip].jpegs
        outcomes.add("read")
    except DataError:
        outcomes.add("refused")
(root / name).write_bytes(whole)
print(*sorted(outcomes))
"""


@pytest.mark.parametrize("name", ["labels.arrow", "train-00000.arrow"])
def test_open_split_survives_random_changes_of_arrow_files(
    tmp_path: Path, record: Record, write: Write, name: str
) -> None:
    """Run in a process of its own: without checks, about ten of the 250 changes end it by a segmentation fault."""
    root = write(tmp_path, {"train": [record(index, 3 + index) for index in range(3)]}, 10**9)
    words = [sys.executable, "-c", MUTATE, str(root), name, "250"]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stdout.split()) == (0, ["read", "refused"]), ended.stderr


def typed(each: ClipRecord, types: Any = None) -> ClipRecord:
    """The clip with the type of each hand in each frame, or with the given types."""
    drawn = np.random.default_rng(len(each.jpegs)).integers(-1, 3, each.hand_valid.shape)
    return dataclasses.replace(each, hand_types=drawn if types is None else np.array(types))


@pytest.mark.parametrize("kind", ["frames", "features", "poses"])
def test_hand_types_are_a_column_of_shards_that_name_them(
    tmp_path: Path, record: Record, write: Write, kind: str
) -> None:
    records = [typed(record(index, frames)) for index, frames in enumerate([7, 1, 12])]
    if kind != "frames":
        encoded = Encoded(np.ones((1, 7, 5), np.float16), np.zeros((1, 2), np.float32)) if kind == "features" else None
        records = [dataclasses.replace(records[0], jpegs=[], encoded=encoded)]
    write(tmp_path, {"train": records})
    made = manifest.read(tmp_path)
    if kind == "features":
        how = manifest.Encoding(encoder="e", weights="w", views=0, width=5, key="0" * 64)
        manifest.write(tmp_path, made.model_copy(update={"encoding": how}))
    if kind == "poses":
        manifest.write(tmp_path, made.model_copy(update={"quality": 0}))
    clips = open_split(tmp_path, "train")
    clips.check_frames()
    assert clips.info.hand_types == ("rest", "reach", "side")
    for index, (found, expected) in enumerate(zip(clips, records, strict=True)):
        assert_same(found, expected)
        np.testing.assert_array_equal(clips.hand_types(index), expected.hand_types)


def test_shards_without_hand_types_keep_their_bytes(tmp_path: Path, record: Record, write: Write) -> None:
    """Sources that do not name them write what they always wrote, so that older versions can read it."""
    write(tmp_path, {"train": [record(0, 3)]})
    assert "hand_types" not in json.loads((tmp_path / manifest.NAME).read_text())
    assert arrow.open_shard(tmp_path / "train-00000.arrow").schema.equals(arrow.SCHEMA)
    clips = open_split(tmp_path, "train")
    assert clips.hand_types(0) is clips[0].hand_types is None
    assert clips.info.hand_types == ()


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        ([[0, 3]] * 2, "its hand types must be .2, 2. numbers from -1 to 2"),
        ([[0, -2]] * 2, "its hand types must be .2, 2. numbers"),
        ([[0, 1]], "its hand types must be .2, 2. numbers"),
        (None, "it holds no hand types, unlike its manifest"),
    ],
)
def test_invalid_hand_types_are_refused(tmp_path: Path, record: Record, write: Write, types: Any, reason: str) -> None:
    """The labels of a damaged or foreign shard are found before a training reads them."""
    damaged = record(0, 2) if types is None else typed(record(0, 2), types)
    write(tmp_path, {"train": [damaged]})
    made = manifest.read(tmp_path)
    manifest.write(tmp_path, made.model_copy(update={"hand_types": ["rest", "reach", "side"]}))
    with pytest.raises(DataError, match=f"Clip clip-0 in .* does not match its manifest and labels: {reason}"):
        open_split(tmp_path, "train").check_frames()
