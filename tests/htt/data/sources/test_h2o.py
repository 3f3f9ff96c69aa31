"""H2O: its folder layouts, labels, joints and cameras."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from h2o_folder import GOLDEN, NOTHING, TEST, TRAIN, read
from PIL import Image

from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import open_split
from htt.data.shards import manifest
from htt.data.sources import open_source
from htt.testing.trees import TrueClip, write_h2o
from htt.testing.truth import check_clip
from htt.vocabulary import ACTIONS, OBJECTS


@pytest.mark.parametrize("size", [(96, 54), (64, 48)])
def test_convert_gives_true_joints_labels_and_intrinsics(
    root: Path, true: dict[str, TrueClip], tmp_path: Path, size: tuple[int, int]
) -> None:
    made, problems = convert(open_source("h2o", root), tmp_path / "out", Making(*size), workers=1)
    assert problems == []
    assert list(manifest.verify(tmp_path / "out").splits) == ["train", "test"]
    assert {split: made.count(split) for split in made.splits} == {"train": (2, 44), "test": (1, 34)}
    for split in made.splits:
        clips = open_split(tmp_path / "out", split)
        assert [check_clip(clip, true[clip.id]) for clip in clips] == [NOTHING] * len(clips)
    clips = open_split(tmp_path / "out", "train")
    assert clips.info.actions == ACTIONS
    assert clips.ids == ["32", "438"]
    assert clips.subjects == ["subject1", "subject2"]
    assert clips.groups == ["subject1/h1/6", "subject2/o2/3"]
    assert clips.action.tolist() == [13, 6]
    assert [OBJECTS[each] for each in clips.object] == ["cocoa", "chips"]
    assert clips.frame_numbers(1).tolist() == list(range(404, 426))


def test_read_gives_poses_without_images(root: Path, true: dict[str, TrueClip]) -> None:
    for recording in (TRAIN, "subject2/o2/3/cam4"):
        shutil.rmtree(root / recording / "rgb")
    made, problems = convert(open_source("h2o", root), root / "out", Making(96, 54, quality=0), workers=1)
    assert (made.poses_only, problems) == (True, [])
    for clip in open_split(root / "out", "train"):
        own = true[clip.id]
        assert (clip.jpegs, clip.frame_numbers) == ([], own.numbers)
        assert (clip.hand_valid == own.hand_valid).all()
        joints = np.repeat(own.hand_valid, 21, axis=1)
        np.testing.assert_allclose(clip.joints_m[joints], own.joints_m[joints], rtol=0, atol=1e-5)


def test_read_of_test_clip_has_object_but_no_action(root: Path, true: dict[str, TrueClip]) -> None:
    record, problems = read(root, "27", "test")
    assert record is not None
    assert problems == []
    assert record.action == -1
    assert record.object == true["27"].object
    shutil.rmtree(root / TEST / "obj_pose")
    record, problems = read(root, "27", "test")
    assert record is not None
    assert record.object == -1
    assert problems == ["clip 27 has no object in obj_pose (subject4/h1/5); object not known"]


def test_read_converts_a_frame_written_by_hand(tmp_path: Path) -> None:
    """Write one frame here, so that the writer of the test tree and the reader cannot share a mistake."""
    folder = tmp_path / "subject1/h1/0/cam4"
    for name in ("rgb", "hand_pose"):
        (folder / name).mkdir(parents=True)
    (tmp_path / "action_labels").mkdir()
    (tmp_path / "action_labels/action_train.txt").write_text(
        "id path action_label start_act end_act start_frame end_frame\n7 subject1/h1/0 23 5 5 0 449\n"
    )
    Image.new("RGB", (128, 72), (100, 3, 50)).save(folder / "rgb/000005.png")
    joints = np.arange(126) / 1000 + 0.3
    numbers = [1, *joints[:63], 1, *joints[63:]]
    (folder / "hand_pose/000005.txt").write_text(" ".join(map(str, numbers)) + "\n")
    (folder / "cam_intrinsics.txt").write_text("636.6593 636.2520 635.2839 366.8740 1280 720")
    source = open_source("h2o", tmp_path)
    record, problems = source.read(source.clips("train")[0], 64, 48, 92)
    assert problems == []
    assert (record.id, record.subject, record.action, record.object) == ("7", "subject1", 22, 4)
    assert record.frame_numbers == [5]
    np.testing.assert_allclose(
        record.intrinsics, [[636.6593 / 20, 0, 635.2839 / 20], [0, 636.2520 / 15, 366.8740 / 15], [0, 0, 1]]
    )
    np.testing.assert_allclose(record.joints_m[0], joints.reshape(42, 3), atol=1e-7)
    assert record.hand_valid.tolist() == [[True, True]]


def test_read_handles_shared_frames_and_frames_between_clips(tmp_path: Path) -> None:
    lines = ["1 subject1/h1/0 5 3 12 0 30", "2 subject1/h1/0 7 9 14 0 30", "3 subject1/h1/0 21 17 18 0 30"]
    clips = write_h2o(tmp_path, {"val": lines}, width=96, height=54)
    assert [clip.numbers for clip in clips] == [[*range(3, 13)], [*range(9, 15)], [17, 18]]
    np.testing.assert_array_equal(clips[0].joints_m[6:], clips[1].joints_m[:4])
    shown = (
        "subject1/h1/0/cam4/obj_pose has another object than the clip's action "
        "(milk in 4 of 6 frames, not chips); object of the action used"
    )
    assert open_source("h2o", tmp_path).differences()[-1] == (
        "val clip 1 and val clip 2 share frames 9 to 12 of subject1/h1/0, as actions 5 and 7"
    )
    for clip in clips:
        record, problems = read(tmp_path, clip.id, "val")
        assert problems == ([shown] if clip.id == "2" else [])
        assert check_clip(record, clip) == NOTHING
    assert len(list((tmp_path / "subject1/h1/0/cam4/rgb").iterdir())) == 16


def test_read_accepts_label_rows_in_any_order(root: Path, true: dict[str, TrueClip]) -> None:
    """Check that the content of a row stays with its id."""
    path = root / "action_labels/action_train.txt"
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]))
    for clip in ("32", "438"):
        record, _ = read(root, clip)
        assert check_clip(record, true[clip]) == NOTHING


@pytest.mark.parametrize("folder", ["rgb256", "rgb480_270"])
def test_read_accepts_small_images_and_head_camera_release(tmp_path: Path, folder: str) -> None:
    size = {"width": 455, "height": 256} if folder == "rgb256" else {}
    lines = ["438 subject2/o2/3 7 404 406 0 425"]
    (true,) = write_h2o(tmp_path, {"train": lines}, images=folder, **size)
    (tmp_path / "subject2").rename(tmp_path / "subject2_ego")
    (tmp_path / "action_labels").rename(tmp_path / "label_split")
    (tmp_path / "subject2_ego/o2/3/cam4/rgb").mkdir()
    record, problems = read(tmp_path, "438")
    assert problems == []
    assert record is not None
    assert check_clip(record, true) == NOTHING


def test_read_accepts_byte_order_mark_and_crlf(root: Path, true: dict[str, TrueClip]) -> None:
    for path in (root / "action_labels/action_train.txt", *(root / TRAIN / "hand_pose").iterdir()):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    record, problems = read(root)
    assert record is not None
    assert problems == []
    assert check_clip(record, true["32"]) == NOTHING


def test_clips_of_real_label_files_have_published_counts(tmp_path: Path) -> None:
    (tmp_path / "action_labels").symlink_to(GOLDEN)
    source = open_source("h2o", tmp_path)
    counts = {
        split: (len(source.clips(split)), sum(key.frames for key in source.clips(split))) for split in source.splits
    }
    assert counts == {"train": (569, 55_747), "val": (122, 11_638), "test": (242, 23_391)}
    assert source.differences() == []


def test_differences_compare_with_published_counts(root: Path) -> None:
    assert open_source("h2o", root).differences() == [
        "train: 2 clips, 44 frames; published are 569 and 55,747",
        "val: 0 clips, 0 frames; published are 122 and 11,638",
        "test: 1 clips, 34 frames; published are 242 and 23,391",
    ]
