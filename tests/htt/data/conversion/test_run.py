"""Conversion: complete, resumable, always with the same bytes, and with the name of each file left out."""

import errno
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
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


def test_convert_writes_every_split(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    made, problems = convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    assert made == manifest.verify(tmp_path)
    assert problems == []
    assert made.count("train") == (12, 36)
    assert len(made.shards("train")) > 1
    assert open_split(tmp_path, "val").ids == [f"clip-{index}" for index in range(100, 104)]


def test_convert_resumes_after_interruption(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    convert(NoiseSource(make_record, broken=(1, 9)), whole, MAKING, workers=1)
    for stop_at in (7, 102):
        with pytest.raises(KeyboardInterrupt):
            convert(NoiseSource(make_record, broken=(1, 9), stop_at=stop_at), stopped, MAKING, workers=1)
        with pytest.raises(DataError, match=r"with a manifest\.json"):
            open_split(stopped, "train")
    (stopped / ".val-00000.arrow.999999999.part").write_bytes(b"left by a killed process")
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


def test_convert_remakes_missing_shards(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    with pytest.raises(KeyboardInterrupt):
        convert(NoiseSource(make_record, stop_at=102), tmp_path, MAKING, workers=1)
    (tmp_path / "train-00000.arrow").unlink()
    source = NoiseSource(make_record)
    convert(source, tmp_path, MAKING, workers=1)
    assert "train-0" in source.read_clips
    manifest.verify(tmp_path)


def test_convert_called_again_reads_nothing(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    first = convert(NoiseSource(make_record, broken=(1,)), tmp_path, MAKING, workers=1)
    again = NoiseSource(make_record, broken=(1,))
    assert convert(again, tmp_path, MAKING, workers=1) == first
    assert again.read_clips == []


def test_convert_refuses_other_settings_in_the_same_folder(
    tmp_path: Path, make_record: Callable[..., ClipRecord]
) -> None:
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


def test_convert_refuses_split_without_readable_clips(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    source = NoiseSource(make_record, broken=(*range(12), *range(100, 104)))
    told = r"None of the 12 clips of split 'train' can be read:\n  - train-0/rgb is missing; clip left"
    with pytest.raises(DataError, match=told):
        convert(source, tmp_path, MAKING, workers=1)


def test_convert_keeps_finished_shards_on_full_disk(
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


def test_convert_refuses_another_list_of_clips(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    """Check a list of the same length with other clips: finished and new shards would not belong together."""
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


def test_convert_waits_for_concurrent_call(
    tmp_path: Path, make_record: Callable[..., ClipRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    """Check that the second call waits and then finds everything done."""
    source = NoiseSource(make_record, broken=(3,))
    with ThreadPoolExecutor(2) as pool:
        (one, problems), (other, others) = pool.map(lambda _: convert(source, tmp_path, MAKING, workers=1), range(2))
    assert one == other == manifest.verify(tmp_path)
    assert problems == others == [Problem("train-3/rgb", "is missing", "clip left out", frames=3)]
    assert len(source.read_clips) == 16
    assert f"Another process writes {tmp_path}; waiting for it." in capsys.readouterr().err


def test_convert_writes_expected_clips_and_frames_to_manifest(
    tmp_path: Path, make_record: Callable[..., ClipRecord]
) -> None:
    made, _ = convert(NoiseSource(make_record, broken=(1, 100)), tmp_path, MAKING, workers=1)
    assert made.count("val") == (3, 9)
    assert made.numbers("val") == {f"val-{clip}": range(10, 13) for clip in range(100, 104)}
    assert len(made.numbers("train")) == 12
    with pytest.raises(DataError, match="No split 'vall'"):
        made.numbers("vall")


def test_convert_writes_problems_to_files(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
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


def test_convert_handles_file_names_that_are_not_utf8(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    source = NoiseSource(make_record, broken=(1,), folder=os.fsdecode(b"caf\xe9/"))
    _, problems = convert(source, tmp_path, MAKING, workers=1)
    assert [problem.what for problem in problems] == ["caf\\udce9/train-1/rgb"]


def test_manifest_names_a_frame_rate_that_is_not_the_usual_one(
    tmp_path: Path, make_record: Callable[..., ClipRecord]
) -> None:
    class FastSource(NoiseSource):
        def info(self, width: int, height: int) -> DataInfo:
            return replace(super().info(width, height), frame_rate=60.0)

    made, _ = convert(NoiseSource(make_record), tmp_path / "usual", MAKING, workers=1)
    assert made.info.frame_rate == 30.0
    assert "frame_rate" not in (tmp_path / "usual" / manifest.NAME).read_text()
    convert(FastSource(make_record), tmp_path / "fast", MAKING, workers=1)
    assert open_split(tmp_path / "fast", "val").info.frame_rate == 60.0
