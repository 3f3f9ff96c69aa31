"""Shards: what is written is read back, and what is broken says so."""

import dataclasses
import errno
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from htt.data import files, manifest
from htt.data.clips import Clips, open_split
from htt.data.source import ClipRecord
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


def assert_same(found: ClipRecord, expected: ClipRecord) -> None:
    for field in dataclasses.fields(ClipRecord):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other


def test_gives_back_what_was_written(root: Path, record: Record) -> None:
    clips = open_split(root, "train")
    assert len(clips) == 6
    assert len(manifest.read(root).shards("train")) > 1
    assert manifest.read(root).count("train") == (6, 63)
    for index, frames in enumerate([7, 12, 1, 9, 30, 4]):
        assert clips.frame_count(index) == frames
        assert_same(clips[index], record(index, frames))
    assert clips.info.joints == 42
    assert clips.subjects[4] == "subject1"


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), limit=st.integers(1, 20_000))
def test_round_trip_of_any_clips(tmp_path: Path, counts: list[int], limit: int, record: Record, write: Write) -> None:
    records = [record(index, count) for index, count in enumerate(counts)]
    clips = open_split(write(tmp_path, {"any": records}, limit), "any")
    for found, expected in zip(clips, records, strict=True):
        assert_same(found, expected)


def test_decodes_the_frames_asked_for(root: Path, record: Record) -> None:
    frames = open_split(root, "train").decode(4, [29, 0, 7])
    assert frames.shape == (3, 3, HEIGHT, WIDTH)
    for image, index in zip(frames, [29, 0, 7], strict=True):
        expected = simplejpeg.decode_jpeg(record(4, 30).jpegs[index])
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_pickles_after_use(root: Path) -> None:
    clips = open_split(root, "train")
    clips.decode(1, [0])
    again: Clips = pickle.loads(pickle.dumps(clips))
    assert_same(again[3], clips[3])


def test_same_clips_give_the_same_bytes(root: Path, tmp_path: Path, record: Record, write: Write) -> None:
    records = [record(index, frames) for index, frames in enumerate([7, 12, 1, 9, 30, 4])]
    again = manifest.read(write(tmp_path, {"train": records, "val": records[:1]}))
    assert again == manifest.read(root)


def test_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist.*python -m htt\.data\.convert"):
        open_split(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match="has none"):
        open_split(tmp_path, "train")


def test_no_such_split(root: Path) -> None:
    with pytest.raises(DataError, match=r"got 'vall'. There are: train, val. Did you mean 'val'\?"):
        open_split(root, "vall")


@pytest.mark.parametrize("text", ["", "{", '{"source": 3}'])
def test_broken_manifest(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json must be the manifest"):
        open_split(tmp_path, "train")


def test_manifest_of_another_version(root: Path, tmp_path: Path) -> None:
    manifest.write(tmp_path, manifest.read(root).model_copy(update={"schema_version": 99}))
    with pytest.raises(DataError, match="version 2, which this program reads; it is of 99"):
        open_split(tmp_path, "train")
    fields = json.loads((root / manifest.NAME).read_text())
    del fields["wanted"]  # as the version before had none
    (tmp_path / manifest.NAME).write_text(json.dumps({**fields, "schema_version": 1}))
    with pytest.raises(DataError, match=r"which this program reads; it is of 1\. Convert the data again"):
        open_split(tmp_path, "train")


def test_the_numbers_of_the_frames_there_should_be(root: Path) -> None:
    assert manifest.read(root).numbers("val") == {"clip-0": range(10, 29)}


@pytest.fixture
def broken(tmp_path: Path, record: Record, write: Write) -> Callable[[Callable[[bytes], bytes]], Path]:
    """Shards of one clip of five frames; the argument spoils the file."""

    def spoil(change: Callable[[bytes], bytes]) -> Path:
        write(tmp_path, {"train": [record(0, 5)]})
        file = tmp_path / "train-00000.arrow"
        file.write_bytes(change(file.read_bytes()))
        return tmp_path

    return spoil


def test_verify_names_the_shard_and_both_sums(broken: Callable[..., Path]) -> None:
    root = broken(lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:])
    expected = manifest.read(root).shards("train")[0].sha256
    found = files.sha256(root / "train-00000.arrow")
    with pytest.raises(
        DataError, match=rf"train-00000\.arrow has the sha256 {found}, its manifest says {expected}.*again"
    ):
        manifest.verify(root)


def test_verify_accepts_what_is_whole(root: Path) -> None:
    assert manifest.verify(root) == manifest.read(root)


def test_shard_cut_short_or_missing(broken: Callable[..., Path]) -> None:
    root = broken(lambda data: data[:-100])
    with pytest.raises(DataError, match=r"train-00000\.arrow has \d+ bytes, not the \d+"):
        open_split(root, "train")
    (root / "train-00000.arrow").unlink()
    with pytest.raises(DataError, match=r"train-00000\.arrow is missing"):
        open_split(root, "train")


def test_shard_that_is_no_arrow_file(broken: Callable[..., Path]) -> None:
    root = broken(lambda data: b"x" * len(data))
    clips = open_split(root, "train")
    with pytest.raises(DataError, match=r"must be an Arrow file; .*train-00000\.arrow"):
        clips.decode(0, [0])


def test_truncated_jpeg_names_clip_and_frame(tmp_path: Path, record: Record, write: Write) -> None:
    whole = record(0, 5)
    spoilt = [*whole.jpegs[:2], whole.jpegs[2][:-200], *whole.jpegs[3:]]
    clips = open_split(write(tmp_path, {"train": [dataclasses.replace(whole, jpegs=spoilt)]}), "train")
    assert clips.decode(0, [0, 1, 3]).shape[0] == 3
    with pytest.raises(DataError, match=r"frame 16 of clip clip-0 in .*train-00000\.arrow is not"):
        clips.decode(0, [1, 2])


def test_jpeg_of_another_size(tmp_path: Path, record: Record, write: Write) -> None:
    whole = record(0, 2)
    small = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8))
    clips = open_split(write(tmp_path, {"train": [dataclasses.replace(whole, jpegs=[small, small])]}), "train")
    with pytest.raises(DataError, match="it is 8x8 px, not 32x24"):
        clips.decode(0, [0])


def test_clip_without_frames(tmp_path: Path, record: Record, write: Write) -> None:
    empty = dataclasses.replace(
        record(7, 1),
        frame_numbers=[],
        jpegs=[],
        joints_m=np.zeros((0, 42, 3), np.float32),
        hand_valid=np.zeros((0, 2), bool),
    )
    write(tmp_path, {"train": [record(0, 2), empty]})
    with pytest.raises(DataError, match="A clip must have frames; clip-7 "):
        open_split(tmp_path, "train")


def test_full_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: Record, write: Write
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match="disk is full"):
        write(tmp_path, {"train": [record(0, 2)]})
    assert list(tmp_path.iterdir()) == []
