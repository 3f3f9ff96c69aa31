"""Converting: complete, resumable, the same bytes however it is done, and every file that is left out named."""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from htt import console
from htt.batch import DataInfo
from htt.data import convert as converting
from htt.data import files, manifest
from htt.data.clips import open_split
from htt.data.convert import Making, convert
from htt.data.source import ClipKey, ClipRecord
from htt.errors import DataError, StorageError

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

    def info(self, width: int, height: int) -> DataInfo:
        return DataInfo(self.name, ("a", "b"), ("c",), 2, width, height)

    def clips(self, split: str) -> list[ClipKey]:
        first = 0 if split == "train" else 100
        return [ClipKey(f"{split}-{first + index}", 3, first + index) for index in range(12 if split == "train" else 4)]

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[str]]:
        if key.place == self.stop_at:
            raise KeyboardInterrupt
        self.read_clips.append(key.id)
        if key.place in self.broken:
            return None, [f"{key.id}/rgb is missing"]
        return self.make(key.place, 3), []


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
    state = json.loads((stopped / converting.STATE).read_text())
    last = NoiseSource(make_record, broken=(1, 9))
    _, problems = convert(last, stopped, MAKING, workers=1)
    assert state["splits"]["train"]["clips"] == 12
    assert all(clip.startswith("val") for clip in last.read_clips)
    assert problems == ["train: train-1/rgb is missing", "train: train-9/rgb is missing"]
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
        DataError, match=r"a part of another \(width: 32 there, 64 asked for; height: 24 there, 48 asked"
    ):
        convert(NoiseSource(make_record), tmp_path, other, workers=1)
    convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    with pytest.raises(DataError, match=r"holds some \(width: 32 there, 64 asked for"):
        convert(NoiseSource(make_record), tmp_path, other, workers=1)


def test_nothing_readable(tmp_path: Path, make_record: Callable[..., ClipRecord]) -> None:
    source = NoiseSource(make_record, broken=(*range(12), *range(100, 104)))
    with pytest.raises(DataError, match=r"none could:\n  - train: train-0/rgb is missing"):
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
    with pytest.raises(StorageError, match=r"disk is full.*the same command goes on from there"):
        convert(NoiseSource(make_record), tmp_path, MAKING, workers=1)
    assert sorted(contents(tmp_path)) == [converting.STATE, "train-00000.arrow"]
    monkeypatch.undo()
    source = NoiseSource(make_record)
    convert(source, tmp_path, MAKING, workers=1)
    assert "train-0" not in source.read_clips


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as left:
            console.run(converting.Options, converting.main, words)
        return int(left.value.code or 0)

    assert run("--source", "h20", "--out", str(tmp_path / "out")) == 2
    assert "got 'h20'. There are: h2o, synthetic. Did you mean 'h2o'?" in capsys.readouterr().err
    assert run("--source", "h2o", "--root", str(tmp_path / "gone"), "--out", str(tmp_path / "out")) == 2
    assert "which is no folder" in capsys.readouterr().err
    assert run("--source", "h2o", "--out", str(tmp_path / "out"), "--quality", "0", "--width", "3") == 2
    text = capsys.readouterr().err
    assert "--width must be 16 to 16384; got 3" in text
    assert "--quality must be 1 to 100; got 0" in text
