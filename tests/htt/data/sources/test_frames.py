"""Own data: a table of clips, folders of images or videos, and files of joints; messages about all that is wrong."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest
import simplejpeg
from PIL import Image

from htt import camera, console
from htt.data import convert as converting
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import open_split
from htt.data.shards import manifest
from htt.data.sources import open_source
from htt.errors import DataError
from htt.testing.trees import TrueClip, write_own, write_video
from htt.testing.truth import Lost, check_clip
from htt.video import VideoFile
from htt.vocabulary import ACTIONS, OBJECTS

CLIPS = {"train": 4, "val": 2, "test": 1}
NOTHING = Lost([], [], False)
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[TrueClip]]]:
    written = {}
    for kind in ("images", "video", "poses"):
        root = tmp_path_factory.mktemp(kind)
        written[kind] = root, write_own(root, CLIPS, kind=kind, frames=6)
    return written


@pytest.fixture
def root(trees, tmp_path: Path) -> Path:
    """Copy of the folder of images, for a test to damage."""
    return Path(shutil.copytree(trees["images"][0], tmp_path / "own"))


def read(root: Path, clip: str = "train/0", size=(128, 72), quality: int = 92):
    source = open_source("frames", root)
    key = next(each for each in source.clips(clip.partition("/")[0]) if each.id == clip)
    record, problems = source.read(key, *size, quality)
    return record, [str(problem) for problem in problems]


def change(root: Path, *pairs: tuple[str, str]) -> None:
    """Replace words of the table, each once."""
    path = root / "clips.csv"
    text = path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)


@pytest.mark.parametrize("kind", ["images", "video"])
def test_convert_gives_true_images_joints_labels_and_intrinsics(trees, tmp_path: Path, kind: str) -> None:
    root, true = trees[kind]
    made, problems = convert(open_source("frames", root), tmp_path, Making(128, 72), workers=1)
    assert problems == []
    assert {split: made.count(split)[0] for split in made.splits} == CLIPS
    used = sorted({ACTIONS[clip.action] for clip in true})
    assert made.actions == used
    assert made.objects == sorted({OBJECTS[clip.object] for clip in true})
    for split in made.splits:
        clips = open_split(tmp_path, split)
        assert clips.info.hands == 2
        for clip, own in zip(clips, (each for each in true if each.split == split), strict=True):
            assert clips.info.actions[clip.action] == ACTIONS[own.action]
            assert clips.info.objects[clip.object] == OBJECTS[own.object]
            assert (clip.subject, clip.group) == (f"{split} person", own.group)
            named = TrueClip(**{**vars(own), "action": clip.action, "object": clip.object})
            assert check_clip(clip, named) == NOTHING


def test_images_of_another_aspect_ratio_lose_their_edges(root: Path, trees) -> None:
    (own,) = (clip for clip in trees["images"][1] if clip.id == "train/0")
    record, _ = read(root, size=(48, 36))
    assert record is not None
    middle = camera.intrinsics(1, 1, 0, 0) @ own.intrinsics - [[0, 0, 16], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(record.intrinsics, camera.resized(middle, 0.5, 0.5))
    seen = simplejpeg.decode_jpeg(record.jpegs[0], "RGB")
    expected = np.asarray(Image.fromarray(own.images[0][:, 16:112]).resize((48, 36), Image.Resampling.BILINEAR))
    assert np.abs(seen.astype(int) - expected).mean() < 6


def test_without_intrinsics_a_field_of_view_is_assumed_and_said(root: Path, tmp_path: Path, capsys) -> None:
    table = pl.read_csv(root / "clips.csv")
    table.drop("fx", "fy", "cx", "cy", "subject", "group").write_csv(root / "clips.csv")
    words = ["--source", "frames", "--root", root, "--out", tmp_path / "out", "--width", 64, "--height", 36]
    console.run(converting.Options, converting.main, [str(word) for word in (*words, "--workers", 1)])
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "note: 7 clips of 7 without fx, fy, cx, cy in clips.csv: a horizontal field of view of 90 degrees is assumed, "
        "and every depth depends on it"
    ) in printed
    clips = open_split(tmp_path / "out", "train")
    np.testing.assert_allclose(clips.intrinsics[0], camera.intrinsics(32, 32, 32, 18))
    assert clips.groups == clips.ids
    assert set(clips.subjects) == {""}


def test_poses_are_converted_without_images(trees, tmp_path: Path, capsys) -> None:
    root, true = trees["poses"]
    words = ["--source", "frames", "--root", root, "--out", tmp_path, "--width", 64, "--height", 36, "--poses-only"]
    console.run(converting.Options, converting.main, [str(word) for word in (*words, "--workers", 1)])
    assert (
        f"tune/search.py --space poses --set data.source=frames --set data.root={tmp_path}" in capsys.readouterr().out
    )
    assert manifest.read(tmp_path).poses_only
    for clip, own in zip(open_split(tmp_path, "train"), true[:4], strict=True):
        assert (clip.frame_numbers, clip.hand_valid.tolist()) == (own.numbers, own.hand_valid.tolist())
        np.testing.assert_allclose(clip.intrinsics, camera.resized(own.intrinsics, 0.5, 0.5))
    record, problems = read(root)
    assert record is None
    assert problems == ["train/0 has neither images nor a video; clip left out"]


def test_convert_accepts_data_without_joints(root: Path, tmp_path: Path, capsys) -> None:
    for path in root.rglob("*.parquet"):
        path.unlink()
    words = ["--source", "frames", "--root", root, "--out", tmp_path / "out", "--width", 64, "--height", 36]
    console.run(converting.Options, converting.main, [str(word) for word in (*words, "--workers", 1)])
    printed = capsys.readouterr().out
    assert "Problems" not in printed
    assert f"--set data.root={tmp_path / 'out'} --metric action_accuracy" in printed
    clips = open_split(tmp_path / "out", "train")
    assert clips.info.hands == 1
    assert not any(clips.hand_valid(clip).any() for clip in range(len(clips)))
    record, problems = read(root, quality=0)
    assert (record, problems) == (None, ["train/0.parquet is missing; clip left out"])


def test_unnamed_actions_and_objects_are_unknown(root: Path) -> None:
    table = pl.read_csv(root / "clips.csv")
    test = pl.col("split") == "test"
    table = table.with_columns(object=pl.lit(""), action=pl.when(test).then(pl.lit("")).otherwise("action"))
    table.write_csv(root / "clips.csv")
    record, _ = read(root, "test/0")
    assert record is not None
    assert (record.action, record.object) == (-1, -1)
    assert open_source("frames", root).info(64, 36).objects == ("unknown",)


TABLES = {
    "wrong column": (
        [("id,split", "id,splitt")],
        "no such column 'splitt', there are id, split, action, object, subject, group, fx, fy, cx, cy (Did you mean "
        "'split'?); 1 column missing: split. Correct the table.",
    ),
    "column twice": ([("subject,group", "subject,subject")], "columns given twice: subject"),
    "too few cells": ([(",test person,", ",")], "row 8: 9 cells, the header has 10"),
    "unknown split": ([("test/0,test,", "test/0,tset,")], "row 8: split must be train, val, test; got 'tset'"),
    "clip twice": ([("train/1,", "train/0,")], "row 3: the id 'train/0' occurs again"),
    "clip elsewhere": ([("train/1,", "../1,")], "row 3: the id must be the name of a folder or file below that of"),
    "absolute clip": ([("train/1,", "/etc,")], "row 3: the id must be the name of a folder or file below that of"),
    "no focal length": ([("fx,fy", "fy,fx"), (",test person,recording 0,", ",test person,recording 0,x")],
        "row 8: fx, fy, cx, cy must be four numbers above 0, px, or all empty"),
    "no training clip": (
        [(f"train/{index},train,", f"train/{index},val,") for index in range(4)],
        "no row of split train has an action. Correct the table.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", TABLES)
def test_table_with_a_fault_is_refused_in_one_sentence(root: Path, fault: str) -> None:
    pairs, message = TABLES[fault]
    change(root, *pairs)
    with pytest.raises(DataError) as caught:
        open_source("frames", root).clips("train")
    assert str(caught.value).startswith(f"Invalid {root / 'clips.csv'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_class_without_training_clip_is_refused(root: Path) -> None:
    table = pl.read_csv(root / "clips.csv")
    table = table.with_columns(action=pl.when(pl.col("split") == "test").then(pl.lit("juggle")).otherwise("action"))
    table.write_csv(root / "clips.csv")
    with pytest.raises(
        DataError, match=r"the action 'juggle' is in test alone \(1 clip, such as test/0\): no training"
    ):
        open_source("frames", root).splits  # noqa: B018 - reads the table
    console_error = _refused("--source", "frames", "--root", root, "--out", root.parent / "out")
    assert "no training clip shows it. Correct the table." in console_error
    assert not (root.parent / "out").exists()


def _refused(*words: object) -> str:
    with pytest.raises(DataError) as caught:
        converting.main(converting.Options(**{
            str(name).removeprefix("--"): value for name, value in zip(words[::2], words[1::2], strict=True)
        }))  # fmt: skip
    return str(caught.value)


def test_missing_and_empty_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"No clips\.csv in .*: expected a table of the clips with the columns id, split"
    ):
        open_source("frames", tmp_path)
    (tmp_path / "clips.csv").write_text("\n")
    with pytest.raises(DataError, match=r"it is empty, expected the columns id, split, action, object\. Correct"):
        open_source("frames", tmp_path).clips("train")


def test_missing_clip_and_broken_images_are_problems(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "train/1")
    (root / "train/0/frame2.png").write_bytes(b"no image")
    Image.new("RGB", (64, 72)).save(root / "train/0/frame4.png")
    record, problems = read(root)
    assert record is not None
    assert record.frame_numbers == [0, 1, 3, 5]
    assert record.joints_m.shape == (4, 42, 3)
    assert problems == [
        "train/0/frame2.png is not a complete image (no known format); frame left out",
        "train/0/frame4.png has another size than the first (64x72 px, 128x72 px); frame left out",
    ]
    made, found = convert(open_source("frames", root), tmp_path / "out", Making(64, 36), workers=1)
    assert made.count("train")[0] == 3
    assert "train/1 has neither images nor a video; clip left out" in [str(problem) for problem in found]


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda joints: joints.head(3), "has another number of rows than its clip has images (3, 6)"),
        (lambda joints: joints.rename({"left": "a", "right": "b"}), "has no column left or right (a, b)"),
        (None, "is not a complete Parquet file"),
    ],
)
def test_joints_that_do_not_fit_leave_hands_unknown(root: Path, damage, told: str) -> None:
    path = root / "train/0.parquet"
    if damage:
        damage(pl.read_parquet(path)).write_parquet(path)
    else:
        path.write_bytes(path.read_bytes()[:100])
    record, (problem,) = read(root)
    assert record is not None
    assert not record.hand_valid.any()
    assert problem.startswith(f"train/0.parquet {told}")
    assert problem.endswith("; hands not known")


def test_impossible_hands_are_not_used(root: Path, trees) -> None:
    path = root / "train/0.parquet"
    frame = int(np.flatnonzero(trees["images"][1][0].hand_valid[:, 1])[0])
    right = pl.read_parquet(path)["right"].to_list()
    values = list(right[frame])
    for wrong, told in (
        ([1000 * value for value in values], "a joint is"),
        (values[:60], "expected 63, got 60"),
        ([float("nan"), *values[1:]], "a number is not finite"),
    ):
        right[frame] = wrong
        pl.read_parquet(path).with_columns(right=pl.Series(right)).write_parquet(path)
        record, (problem,) = read(root)
        assert record is not None
        assert not record.hand_valid[frame, 1]
        assert f"train/0.parquet, row {frame + 1} has invalid numbers (right hand: {told}" in problem


def test_one_hand_is_the_right_one_and_nested_lists_are_read(root: Path, trees) -> None:
    for path in root.rglob("*.parquet"):
        right = [
            None if each is None else np.reshape(each, (21, 3)).tolist() for each in pl.read_parquet(path)["right"]
        ]
        pl.DataFrame({"right": pl.Series(right)}).write_parquet(path)
    record, problems = read(root)
    own = trees["images"][1][0]
    assert (problems, open_source("frames", root).info(64, 36).hands) == ([], 1)
    assert record is not None
    assert record.hand_valid[:, 0].tolist() == own.hand_valid[:, 1].tolist()
    known = record.hand_valid[:, 0]
    np.testing.assert_allclose(record.joints_m[known], own.joints_m[known, 21:], atol=1e-6)


def test_photographs_are_turned_as_their_cameras_say(root: Path) -> None:
    plain, _ = read(root)
    for path in (root / "train/0").iterdir():
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.ROTATE_90)
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned to the right
        turned.save(path, exif=exif)
    found, problems = read(root)
    assert (found.jpegs, problems) == (plain.jpegs, [])
    np.testing.assert_array_equal(found.intrinsics, plain.intrinsics)


def test_images_are_ordered_by_number(tmp_path: Path) -> None:
    root = tmp_path / "own"
    (root / "a").mkdir(parents=True)
    (root / "clips.csv").write_text("id,split,action,object\na,train,wave,\n")
    for number in range(12):
        Image.new("RGB", (32, 32), (20 * number, 0, 0)).save(root / f"a/x{number}.png")
    (root / "a/notes.txt").write_text("not an image")
    source = open_source("frames", root)
    record, _ = source.read(source.clips("train")[0], 32, 32, 92)
    assert record is not None
    reds = [int(simplejpeg.decode_jpeg(jpeg, "RGB")[..., 0].mean().round()) for jpeg in record.jpegs]
    assert reds == sorted(reds)
    assert len(reds) == 12


class TestVideos:
    @pytest.fixture
    def root(self, trees, tmp_path: Path) -> Path:
        return Path(shutil.copytree(trees["video"][0], tmp_path / "own"))

    def test_video_may_be_in_the_folder_of_the_clip(self, root: Path, trees) -> None:
        own = trees["video"][1][0]
        (root / "train/0.mkv").unlink()
        (root / "train/0").mkdir()
        write_video(root / "train/0/GX010001.MP4", own.images, "mpeg4", "yuv420p")
        record, problems = read(root)
        assert (len(record.jpegs), problems) == (6, [])
        errors = [np.abs(simplejpeg.decode_jpeg(jpeg, "RGB").astype(int) - image).mean()
                  for jpeg, image in zip(record.jpegs, own.images, strict=True)]  # fmt: skip
        assert max(errors) < 12

    def test_video_cut_off_gives_the_frames_before(self, root: Path) -> None:
        path = root / "train/0.mkv"
        assert VideoFile(path).times().shape == (6,)
        path.write_bytes(path.read_bytes()[: int(0.7 * path.stat().st_size)])
        assert 0 < len(VideoFile(path).times()) < 6
        record, problems = read(root)
        assert 0 < len(record.jpegs) < 6
        assert any("train/0.parquet has another number of rows than its clip has images" in each for each in problems)

    def test_video_with_a_damaged_part_leaves_hands_unknown(self, root: Path, monkeypatch) -> None:
        """The decoder goes on after a fault, so nobody knows which row of joints belongs to a later frame."""
        whole = VideoFile.frames

        def without_third(video: VideoFile):
            yield from (timed for number, timed in enumerate(whole(video)) if number != 2)

        monkeypatch.setattr(VideoFile, "frames", without_third)
        record, problems = read(root)
        assert record is not None
        assert (len(record.jpegs), record.hand_valid.any()) == (5, False)
        assert problems == [
            "train/0.mkv is damaged or cut off (5 of 6 frames); frame left out",
            "clip train/0 lacks frames, so its joints may belong to other frames; hands not known",
        ]

    def test_videos_of_different_rates_are_resampled_to_the_lowest(self, root: Path, tmp_path: Path, trees) -> None:
        """Every frame of a clip becomes four of 60 frames/s and has its joints four times: the result is as before."""
        before, problems = convert(open_source("frames", root), tmp_path / "before", Making(64, 36), workers=1)
        write_video(root / "train/0.mkv", np.repeat(trees["video"][1][0].images, 4, axis=0), rate=60)
        joints = pl.read_parquet(root / "train/0.parquet")
        joints[np.repeat(np.arange(len(joints)), 4).tolist()].write_parquet(root / "train/0.parquet")
        source = open_source("frames", root)
        assert source.differences() == ["videos of 15 to 60 frames/s: all are resampled to 15"]
        made, problems = convert(source, tmp_path / "out", Making(64, 36), workers=1)
        assert (made.info.frame_rate, problems) == (15, [])
        assert made == before
        poses, problems = convert(source, tmp_path / "poses", Making(64, 36, quality=0), workers=1)
        assert (poses.count("train"), problems) == (before.count("train"), [])

    def test_rate_that_is_no_multiple_takes_the_nearest_frames_with_their_joints(self, root: Path, trees) -> None:
        own = trees["video"][1][0]
        write_video(root / "train/0.mkv", own.images, rate=25)
        record, problems = read(root)
        assert record is not None
        nearest = [0, 2, 3, 5]  # at 0, 1/15, 2/15 and 3/15 s; frames are 1/25 s apart
        assert (len(record.jpegs), problems) == (4, [])
        assert record.hand_valid.tolist() == own.hand_valid[nearest].tolist()
        known = np.repeat(record.hand_valid, 21, axis=1)
        np.testing.assert_allclose(record.joints_m[known], own.joints_m[nearest][known], atol=1e-6)
        for jpeg, image in zip(record.jpegs, own.images[nearest], strict=True):
            assert np.abs(simplejpeg.decode_jpeg(jpeg, "RGB").astype(int) - image).mean() < 6

    def test_frame_rate_of_images_is_the_usual_one(self, trees) -> None:
        assert open_source("frames", trees["images"][0]).info(64, 36).frame_rate == 30

    def test_no_video_broken_video_and_sound_alone_are_problems(self, root: Path) -> None:
        path = root / "train/0.mkv"
        path.write_bytes(b"no video" * 100)
        record, problems = read(root)
        assert record is None
        assert problems[0].startswith("train/0.mkv is not a readable video (")
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16000)
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 16000
            container.mux([*stream.encode(silence), *stream.encode()])
        (problem,) = read(root)[1]
        assert "it has only audio" in problem
        assert problem.endswith("clip left out")
        path.unlink()
        assert read(root) == (None, ["train/0 has neither images nor a video; clip left out"])


BLOCKED = """
import sys
from htt import console
from htt.data import convert
from htt.data.sources.frames import FramesSource
whole = FramesSource.read
def read(source, key, *making):
    if key.id == "val/1":
        print("blocked", flush=True)
        sys.stdin.read()  # until it is killed
    return whole(source, key, *making)
FramesSource.read = read
console.run(convert.Options, convert.main, sys.argv[1:])
"""


def _words(root: Path, out: Path) -> list[str]:
    words = ["--source", "frames", "--root", root, "--out", out, "--width", 64, "--height", 36, "--workers", 1]
    return [str(word) for word in words]


def test_killed_conversion_of_own_videos_is_resumed(trees, tmp_path: Path, capsys) -> None:
    """The finished shard is kept, and the result is that of a conversion without a kill."""
    root, out = trees["video"][0], tmp_path / "out"
    words = _words(root, out)
    child = subprocess.Popen(
        [sys.executable, "-c", BLOCKED, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert any(line == "blocked\n" for line in child.stdout)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    before = (out / "train-00000.arrow").stat()
    console.run(converting.Options, converting.main, words)
    after = (out / "train-00000.arrow").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    made, _ = convert(open_source("frames", root), tmp_path / "whole", Making(64, 36), workers=1)
    assert manifest.read(out) == made
    assert {path.name for path in out.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()}


def test_full_disk_ends_a_conversion_that_can_be_resumed(trees, tmp_path: Path, capsys) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root mounts a disk")
    root, out = trees["images"][0], tmp_path / "disk" / "out"
    out.parent.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out.parent)]
    if subprocess.run(mounted, capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts no disk")
    try:
        with pytest.raises(SystemExit) as left:
            console.run(converting.Options, converting.main, _words(root, out))
        said = " ".join(capsys.readouterr().err.split())
        assert (left.value.code, said.count("error:")) == (2, 1)
        assert "the disk is full" in said
        subprocess.run(["mount", "-o", "remount,size=16m", str(out.parent)], check=True)
        console.run(converting.Options, converting.main, _words(root, out))
        made, _ = convert(open_source("frames", root), tmp_path / "whole", Making(64, 36), workers=1)
        assert manifest.read(out) == made
    finally:
        subprocess.run(["umount", "--lazy", str(out.parent)], check=True)


def test_changed_labels_are_not_mixed_with_those_of_earlier_shards(root: Path, tmp_path: Path) -> None:
    """A class that is renamed or added moves the indices of others."""
    out = tmp_path / "out"
    convert(open_source("frames", root), out, Making(64, 36), workers=1)
    first = pl.read_csv(root / "clips.csv")["action"][0]
    text = (root / "clips.csv").read_text()
    (root / "clips.csv").write_text(text.replace(f",{first},", ",a new action,"))
    with pytest.raises(DataError, match=r"already holds shards with other settings \(labels: existing .*requested"):
        convert(open_source("frames", root), out, Making(64, 36), workers=1)
