"""Converting: complete, resumable, the same bytes however it is done, and every file that is left out named."""

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from htt import files
from htt.data.conversion import state as conversion_state
from htt.data.conversion.run import convert
from htt.data.conversion.state import STATE, Making
from htt.data.loading.clips import open_split
from htt.data.shards import manifest
from htt.data.sources import ClipKey, ClipRecord, Problem
from htt.errors import DataError, StorageError
from htt.info import DataInfo

MAKING = Making(32, 24, shard_bytes=8_000)


@dataclass
class NoiseSource:
    """Clips of noise; some cannot be read, and reading may be interrupted."""

    make: Callable[..., ClipRecord]
    broken: tuple[int, ...] = ()
    stop_at: int | None = None
    name: str = "noise"
    pixels: str = "noise"
    splits: tuple[str, ...] = ("train", "val")
    read_clips: list[str] = field(default_factory=list)
    renamed: str = ""
    folder: str = ""

    def info(self, width: int, height: int) -> DataInfo:
        return DataInfo(self.name, tuple("abcd"), tuple("wxyz"), 2, width, height)

    def clips(self, split: str) -> list[ClipKey]:
        first = 0 if split == "train" else 100
        names = [f"{self.renamed}{split}-{first + index}" for index in range(12 if split == "train" else 4)]
        return [ClipKey(name, 3, first + index, first=10) for index, name in enumerate(names)]

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:
        if key.entry == self.stop_at:
            raise KeyboardInterrupt
        self.read_clips.append(key.id)
        if key.entry in self.broken:
            return None, [Problem(f"{self.folder}{key.id}/rgb", "is missing", "clip left out", frames=3)]
        return self.make(key.entry, 3), []

    def differences(self) -> list[str]:
        return []


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != ".lock"}


def test_converts_every_split(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    made, problems = convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    assert made == manifest.verify(tmp_path)
    assert problems == []
    assert made.count("train") == (12, 36)
    assert len(made.shards("train")) > 1
    assert open_split(tmp_path, "val").ids == [f"clip-{index}" for index in range(100, 104)]


def test_goes_on_after_an_interruption(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    convert(NoiseSource(make_record, broken=(1, 9)), whole, MAKING, workers=1)
    for stop_at in (7, 102):
        with pytest.raises(KeyboardInterrupt):
            convert(NoiseSource(make_record, broken=(1, 9), stop_at=stop_at), stopped, MAKING, workers=1)
        with pytest.raises(DataError, match=r"with a manifest\.json"):
            open_split(stopped, "train")
    (stopped / ".val-00000.arrow.4711.part").write_bytes(b"left by a killed process")
    state = json.loads((stopped / STATE).read_text())
    last = NoiseSource(make_record, broken=(1, 9))
    _, problems = convert(last, stopped, MAKING, workers=1)
    assert state["splits"]["train"]["clips"] == 12
    assert all(clip.startswith("val") for clip in last.read_clips)
    assert [str(problem) for problem in problems] == [
        "train-1/rgb is missing; clip left out",
        "train-9/rgb is missing; clip left out",
    ]
    assert contents(stopped) == contents(whole)


def test_finished_shards_are_made_again_only_if_they_are_gone(
    tmp_path: Path, make_record: Callable[..., ClipRecord]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(NoiseSource(make_record, stop_at=102), tmp_path, MAKING, workers=1)
    (tmp_path / "train-00000.arrow").unlink()
    source = NoiseSource(make_record)
    convert(source, tmp_path, MAKING, workers=1)
    assert "train-0" in source.read_clips
    manifest.verify(tmp_path)


def test_a_second_call_does_nothing(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    first = convert(NoiseSource(make_record, broken=(1,)), tmp_path, MAKING, workers=1)
    again = NoiseSource(make_record, broken=(1,))
    assert convert(again, tmp_path, MAKING, workers=1) == first
    assert again.read_clips == []


def test_other_settings_need_another_folder(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(NoiseSource(make_record, stop_at=102), tmp_path, MAKING, workers=1)
    other = Making(64, 48, shard_bytes=8_000)
    with pytest.raises(
        DataError, match=r"with other settings \(width: existing 32, requested 64; height: existing 24, requested 48"
    ):
        convert(NoiseSource(make_record), tmp_path, other, workers=1)
    convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    with pytest.raises(DataError, match=r"already holds shards with other settings \(width: existing 32, requested 64"):
        convert(NoiseSource(make_record), tmp_path, other, workers=1)


def test_nothing_readable(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    source = NoiseSource(make_record, broken=(*range(12), *range(100, 104)))
    told = r"None of the 12 clips of split 'train' can be read:\n  - train-0/rgb is missing; clip left"
    with pytest.raises(DataError, match=told):
        convert(source, tmp_path, MAKING, workers=1)


def test_full_disk_keeps_what_is_finished(
    tmp_path: Path, make_record: Callable[..., ClipRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def full(number: int) -> None:
        calls.append(number)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(StorageError, match=r"disk is full.*repeat the command to resume"):
        convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    assert sorted(contents(tmp_path)) == [STATE, "train-00000.arrow"]
    monkeypatch.undo()
    source = NoiseSource(make_record)
    convert(source, tmp_path, MAKING, workers=1)
    assert "train-0" not in source.read_clips


def test_a_split_that_has_begun_keeps_its_list_of_clips(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    """Of the same length, but of other clips: what is there and what would come do not belong together."""
    with pytest.raises(KeyboardInterrupt):
        convert(NoiseSource(make_record, stop_at=102), tmp_path, MAKING, workers=1)
    other = NoiseSource(make_record, renamed="other-")
    with pytest.raises(
        DataError, match=r"with other settings \(list of clips: existing \w{12}, requested \w{12}\)\. Choose another"
    ):
        convert(other, tmp_path, MAKING, workers=1)
    assert other.read_clips == []
    convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    with pytest.raises(DataError, match=r"already holds shards with other settings \(list of clips: "):
        convert(other, tmp_path, MAKING, workers=1)


def test_two_at_once(
    tmp_path: Path, make_record: Callable[..., ClipRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second waits, and finds everything done."""
    source = NoiseSource(make_record, broken=(3,))
    with ThreadPoolExecutor(2) as pool:
        (one, problems), (other, others) = pool.map(lambda _: convert(source, tmp_path, MAKING, workers=1), range(2))
    assert one == other == manifest.verify(tmp_path)
    assert problems == others == [Problem("train-3/rgb", "is missing", "clip left out", frames=3)]
    assert len(source.read_clips) == 16
    assert f"Another process writes {tmp_path}; waiting for it." in capsys.readouterr().err


def test_the_manifest_says_which_clips_and_frames_there_should_be(
    tmp_path: Path, make_record: Callable[..., ClipRecord]
) -> None:
    made, _ = convert(NoiseSource(make_record, broken=(1, 100)), tmp_path, MAKING, workers=1)
    assert made.count("val") == (3, 9)
    assert made.numbers("val") == {f"val-{clip}": range(10, 13) for clip in range(100, 104)}
    assert len(made.numbers("train")) == 12
    with pytest.raises(DataError, match="No split 'vall'"):
        made.numbers("vall")


def test_what_was_wrong_is_written_down(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    convert(NoiseSource(make_record, broken=(1, 101)), tmp_path, MAKING, workers=1)
    assert (tmp_path / conversion_state.LEFT_OUT).read_text().splitlines() == [
        "train: train-1/rgb is missing; clip left out",
        "val: val-101/rgb is missing; clip left out",
    ]
    found = conversion_state.problems(tmp_path)
    assert found["val"] == [Problem("val-101/rgb", "is missing", "clip left out", frames=3)]
    (tmp_path / conversion_state.PROBLEMS).write_text("[]")
    with pytest.raises(DataError, match=r"left_out\.json: expected a list of problems"):
        conversion_state.problems(tmp_path)


def test_names_that_are_no_text_can_be_written_down(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    source = NoiseSource(make_record, broken=(1,), folder=os.fsdecode(b"caf\xe9/"))
    _, problems = convert(source, tmp_path, MAKING, workers=1)
    assert [problem.what for problem in problems] == ["caf\\udce9/train-1/rgb"]
