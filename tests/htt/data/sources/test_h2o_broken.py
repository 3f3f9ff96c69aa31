"""H2O: missing and damaged files of its folder are named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from h2o_folder import NOTHING, TRAIN, read, rows

from htt import console
from htt.data import convert as converting
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import open_split
from htt.data.sources import open_source
from htt.errors import DataError
from htt.testing.trees import TrueClip, write_h2o
from htt.testing.truth import Lost, check_clip


def test_read_drops_frames_without_image_but_not_without_pose(root: Path, true: dict[str, TrueClip]) -> None:
    folder = root / TRAIN
    for number in (0, *range(10, 14)):
        (folder / f"rgb/{number:06d}.png").unlink()
    whole = (folder / "rgb/000002.png").read_bytes()
    (folder / "rgb/000002.png").write_bytes(whole[: len(whole) // 2])
    line = (folder / "hand_pose/000001.txt").read_text()
    last = line.split()[127]
    broken = {
        1: " ".join(line.split()[:64]),
        5: "left hand " * 64,
        6: line.replace(last, "nan"),
        7: line.rstrip()[:-1],
        8: "2" + line[1:],
        9: line.replace(last, "1250.0"),
    }
    for number, content in broken.items():
        (folder / f"hand_pose/{number:06d}.txt").write_text(content)
    for number in (3, 4, 10):
        (folder / f"hand_pose/{number:06d}.txt").unlink()
    record, problems = read(root)
    assert record is not None
    lost = check_clip(record, true["32"])
    assert lost == Lost([0, 2, 10, 11, 12, 13], [1, *range(3, 10)], False)
    assert problems == [
        f"{TRAIN}/rgb/000000.png is missing; frame left out",
        f"{TRAIN}/rgb/000010.png to 000013.png is missing; frame left out",
        problems[2],
        f"{TRAIN}/hand_pose/000001.txt is truncated (64 numbers, the last is '{line.split()[63]}'); hands not known",
        f"{TRAIN}/hand_pose/000003.txt to 000004.txt is missing; hands not known",
        f"{TRAIN}/hand_pose/000005.txt to 000006.txt has invalid numbers "
        "(could not convert string to float: 'left'); hands not known",
        f"{TRAIN}/hand_pose/000007.txt is truncated (128 numbers, the last is '{last[:-1]}'); hands not known",
        f"{TRAIN}/hand_pose/000008.txt to 000009.txt has invalid numbers "
        "(the flag of a hand must be 0 or 1, not 2); hands not known",
    ]
    assert problems[2].startswith(f"{TRAIN}/rgb/000002.png is not a complete image (")


def test_read_rejects_joints_in_another_unit(root: Path) -> None:
    path = root / TRAIN / "hand_pose/000000.txt"
    words = path.read_text().split()
    path.write_text(" ".join(word if index in (0, 64) else str(1000 * float(word)) for index, word in enumerate(words)))
    record, problems = read(root)
    assert record is not None
    assert record.hand_valid[0].tolist() == [False, False]
    assert not record.joints_m[0].any()
    assert f"{TRAIN}/hand_pose/000000.txt has invalid numbers (a joint is " in problems[0]


def test_differences_report_pose_list_of_unknown_form(tmp_path: Path) -> None:
    write_h2o(tmp_path, {"train": rows("train", 438)}, width=64, height=36, pose_lists=True)
    (tmp_path / "label_split/pose_train.txt").write_text("frame;recording\n404;subject2\n")
    source = open_source("h2o", tmp_path)
    (key,) = source.clips("train")
    record, problems = source.read(key, 64, 36, 92)
    assert record is not None
    assert (record.hand_valid.all(), problems) == (True, [])
    assert "train: pose_train.txt has an unknown form and is not used" in source.differences()


def test_read_marks_hands_unknown_outside_pose_list(tmp_path: Path) -> None:
    (true,) = write_h2o(tmp_path, {"train": rows("train", 438)}, width=96, height=54, pose_lists=True)
    record, problems = read(tmp_path, "438")
    assert record is not None
    assert check_clip(record, true) == NOTHING
    path = tmp_path / "label_split/pose_train.txt"
    forms = (
        "subject2/o2/3/cam4/rgb/{:06d}.png",
        "./subject2_ego/o2/3/cam4/rgb256/{:06d}.jpg",
        "/data/h2o/subject2/o2/3/cam4/{:06d}",
        "subject2\\o2\\3\\cam4\\rgb\\{:06d}.png\r",
    )
    named = [number for number in range(404, 426) if number not in (404, 410, 411)]
    lines = [forms[index % 4].format(number) for index, number in enumerate(named)]
    path.write_text("\n".join([*lines, "subject2/o2/3/cam0/rgb/000410.png", "subject1/o2/3/cam4/rgb/000411.png", ""]))
    record, problems = read(tmp_path, "438")
    assert record is not None
    assert check_clip(record, true) == Lost([], [404, 410, 411], False)
    where = "subject2/o2/3/cam4/hand_pose"
    assert problems == [
        f"{where}/000404.txt is not in pose_train.txt; hands not known",
        f"{where}/000410.txt to 000411.txt is not in pose_train.txt; hands not known",
    ]
    path.write_text("subject2/o2/3/cam4/rgb/000405.png\nsubject2/o2/3/cam4/rgb/0004")
    with pytest.raises(
        DataError, match=r"pose_train.txt: expected one frame per line; line 2: 'subject2/o2/3/cam4/rgb/"
    ):
        read(tmp_path, "438")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "is missing"),
        ("636.6 636.2 635.2 366.8 1280", "is truncated (5 numbers, the last is '1280')"),
        ("636.6 636.2 635.2 366.8 1280 720 0", "has invalid numbers (expected 6, got 7)"),
        ("636.6 -636.2 635.2 366.8 1280 720", "has invalid numbers (-636.2 is not above 0)"),
        ("636.6 inf 635.2 366.8 1280 720", "has invalid numbers ('inf' is not finite)"),
        ("", "is truncated (empty)"),
    ],
)
def test_read_leaves_out_clip_with_invalid_camera(root: Path, content: str | None, problem: str) -> None:
    path = root / TRAIN / "cam_intrinsics.txt"
    path.unlink() if content is None else path.write_text(content)
    record, problems = read(root)
    assert record is None
    assert problems == [f"{TRAIN}/cam_intrinsics.txt {problem}; clip left out"]


def test_read_rejects_camera_of_another_aspect_ratio(root: Path) -> None:
    path = root / TRAIN / "cam_intrinsics.txt"
    path.write_text(path.read_text().rstrip()[:-1])
    record, problems = read(root)
    assert record is None
    assert problems == [
        f"{TRAIN}/rgb/000000.png to 000021.png has another aspect ratio than its camera (96x54 px, 1280x72 px); "
        "frame left out",
        "clip 32 has no readable frame (subject1/h1/6); clip left out",
    ]


def test_read_leaves_out_clip_without_images(root: Path) -> None:
    shutil.rmtree(root / TRAIN / "rgb")
    (root / TRAIN / "rgb").write_text("a file")
    record, problems = read(root)
    assert record is None
    assert problems == [
        f"{TRAIN}/rgb is not a folder; not used",
        f"{TRAIN}/rgb/000000.png to 000021.png is missing; frame left out",
        "clip 32 has no readable frame (subject1/h1/6); clip left out",
    ]


def test_read_handles_clip_of_a_million_frames(root: Path, true: dict[str, TrueClip]) -> None:
    path = root / "action_labels/action_train.txt"
    path.write_text(path.read_text().replace("14 0 21 0 485", "14 0 999999 0 999999"))
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true["32"]) == NOTHING
    assert problems == [f"{TRAIN}/rgb/000022.png to 999999.png is missing; frame left out"]


def test_clips_name_invalid_lines_of_label_file(root: Path) -> None:
    path = root / "action_labels/action_train.txt"
    wrong = {
        "50 subject1/h1/0 44 5 6 0 449": "line 4: expected an action from 1 to 36, got 44",
        "51 subject1/h1/0 1 9": "line 5: expected 7 words, got 4",
        "52 subject1/h1/0 1 9 2 0 449": "line 6: the action ends in frame 2, before its start in frame 9",
        "438 subject1/h1/0 1 2 9 0 449": "line 7: repeats the id 438 of line 3",
        "54 subject1/h1/0 1 2 9 0 8": "line 8: the action, frames 2 to 9, is outside its recording, frames 0 to 8",
        "55 subject1/h1/0 1 2 1000000 0 2000000": "line 9: the largest number is 999999, got 1000000",
        "56 subject1/h1/0 1 -2 9 0 449": "line 10: '-2' is not a whole number",
        "57 ../h1/0 1 2 9 0 449": "line 11: '../h1/0' is not a recording such as subject1/h1/0",
    }
    path.write_text(path.read_text() + "\n".join(wrong))
    with pytest.raises(DataError) as error:
        open_source("h2o", root).clips("train")
    for part in (f"Invalid {path}: expected one clip per line; ", *wrong.values(), ". Get the file again."):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected the header 'id path action_label"),
        (b"1 subject1/h1/0 16 0 61 0 449\n", "got '1 subject1/h1/0 16 0 61 0 449'"),
        (b"id path \xe9", r"is not text \(byte 8 is not UTF-8\)"),
        (None, "is a folder"),
    ],
)
def test_clips_refuse_invalid_label_file(root: Path, content: bytes | None, message: str) -> None:
    path = root / "action_labels/action_train.txt"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_source("h2o", root).clips("train")


def test_convert_refuses_folder_without_label_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No label files of H2O, such as .*action_labels/action_train\.txt"):
        convert(open_source("h2o", tmp_path), tmp_path / "out", Making(64, 48))


def test_convert_command_prints_one_sentence_on_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--source", "h2o", "--root", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as left:
        console.run(converting.Options, converting.main, words)
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


BOTH = "subject2/o2/3/cam4"
"""Folder of the training clip with both hands in the image, frames 404 to 425."""


def _words(path: Path) -> list[str]:
    return path.read_text().split()


@pytest.mark.parametrize("hand", [0, 1])
@pytest.mark.parametrize("end", ["", "\n"])
def test_read_accepts_absent_hand_written_as_zeros(root: Path, true: dict[str, TrueClip], hand: int, end: str) -> None:
    """Check lines of all 128 numbers; without a line end, only the right hand's format shows that none was cut."""
    for path in (root / BOTH / "hand_pose").iterdir():
        words = _words(path)
        words[64 * hand : 64 * (hand + 1)] = ["0"] * 64
        path.write_text(" ".join(words) + end)
    record, problems = read(root, "438")
    assert record is not None
    assert problems == []
    expected = true["438"].hand_valid.copy()
    expected[:, hand] = False
    assert expected.any()
    np.testing.assert_array_equal(record.hand_valid, expected)
    known = np.repeat(expected, 21, axis=1)
    np.testing.assert_allclose(record.joints_m[known], true["438"].joints_m[known], atol=1e-5)


@pytest.mark.parametrize(("value", "told"), [("0", "0"), ("0.015", "0.026"), ("1250.0", "2.17e+03")])
def test_read_rejects_impossible_hand_and_keeps_the_other(
    root: Path, true: dict[str, TrueClip], value: str, told: str
) -> None:
    frame = int(np.flatnonzero(true["438"].hand_valid.all(axis=1))[0])
    path = root / BOTH / f"hand_pose/{404 + frame:06d}.txt"
    path.write_text(" ".join(["1", *[value] * 63, *_words(path)[64:]]) + "\n")
    record, problems = read(root, "438")
    assert record is not None
    assert record.hand_valid[frame].tolist() == [False, True]
    assert not record.joints_m[frame, :21].any()
    where = f"{BOTH}/hand_pose/{404 + frame:06d}.txt"
    assert problems == [
        f"{where} has invalid numbers (a joint is {told} m from the camera, left hand); hands not known"
    ]


def test_convert_refuses_split_without_known_hands(root: Path, tmp_path: Path) -> None:
    poses = [root / TRAIN / "hand_pose", root / "subject2/o2/3/cam4/hand_pose"]
    for path in poses:
        path.rename(path.with_name("elsewhere"))
    told = r"None of the 44 frames of split 'train' has known hands\. Check that the archive with the hand poses"
    with pytest.raises(
        DataError, match=told + r"[^/]*\n  - subject1/h1/6/cam4/hand_pose/000000.txt to 000021.txt is mis"
    ):
        convert(open_source("h2o", root), tmp_path / "out", Making(96, 54), workers=1)
    for path in poses:
        path.with_name("elsewhere").rename(path)
    made, problems = convert(open_source("h2o", root), tmp_path / "out", Making(96, 54), workers=1)
    assert (made.count("train"), problems) == ((2, 44), [])
    assert open_split(tmp_path / "out", "train").hand_valid(0).any(), "what was made without poses is made again"


def test_clips_refuse_lists_of_another_split(root: Path) -> None:
    path = root / "action_labels/action_train.txt"
    whole = path.read_text()
    path.write_text((root / "action_labels/action_test.txt").read_text())
    with pytest.raises(
        DataError, match=r"action_train\.txt: expected the action of each clip, got the header 'id path"
    ):
        open_source("h2o", root).clips("train")
    path.write_text(whole)
    (root / "label_split").mkdir()
    (root / "label_split/pose_train.txt").write_text("subject4/h1/5/cam4/rgb/000096.png\n")
    with pytest.raises(
        DataError, match=r"pose_train\.txt names no frame of the clips in .*action_train\.txt\. Is one of them"
    ):
        open_source("h2o", root).clips("train")


def test_differences_report_frames_shared_by_train_and_test(root: Path) -> None:
    path = root / "action_labels/action_test.txt"
    path.write_text(path.read_text() + "28 subject1/h1/6 20 21 0 485\n")
    assert open_source("h2o", root).differences()[-1] == (
        "train clip 32 and test clip 28 share frames 20 to 21 of subject1/h1/6, as actions 14 and 0"
    )


def test_read_reports_action_labels_that_differ_from_list(root: Path, true: dict[str, TrueClip]) -> None:
    folder = root / TRAIN / "action_label"
    folder.mkdir()
    for number in range(22):
        (folder / f"{number:06d}.txt").write_text(f"{true['32'].action + 1}\n")
    assert read(root)[1] == []
    for number in range(3):
        (folder / f"{number:06d}.txt").write_text("9\n")
    record, problems = read(root)
    assert record is not None
    assert record.action == true["32"].action
    told = "has another action than the list (3 of 22 frames, most 9, not 14); action of the list used"
    assert problems == [f"{TRAIN}/action_label {told}"]


def test_read_uses_most_complete_folders(root: Path, true: dict[str, TrueClip]) -> None:
    """Check an incomplete rgb beside a complete rgb256, and poses incomplete in one folder, complete in another."""
    folder = root / TRAIN
    shutil.copytree(folder / "rgb", folder / "rgb256")
    for number in range(10, 22):
        (folder / f"rgb/{number:06d}.png").unlink()
    shutil.copytree(folder / "hand_pose", root / "subject1_pose_v1_1" / TRAIN / "hand_pose")
    (folder / "hand_pose/000007.txt").unlink()
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true["32"]) == NOTHING
    assert problems == [
        f"{TRAIN}/rgb256 is one of several folders with its images (22 of 22 frames; {TRAIN}/rgb has 10); used"
    ]


def test_read_prefers_images_of_requested_size(tmp_path: Path) -> None:
    write_h2o(tmp_path, {"train": rows("train", 438)}, width=48, height=27, images="rgb256")
    folder = tmp_path / "subject2/o2/3/cam4"
    (true,) = write_h2o(tmp_path / "large", {"train": rows("train", 438)}, width=96, height=54, images="rgb480_270")
    (tmp_path / "large/subject2/o2/3/cam4/rgb480_270").rename(folder / "rgb480_270")
    shutil.rmtree(tmp_path / "large")
    record, problems = read(tmp_path, "438")
    assert record is not None
    assert check_clip(record, true) == NOTHING
    assert [problem.split(" (")[0] for problem in problems] == [
        "subject2/o2/3/cam4/rgb480_270 is one of several folders with its images"
    ]
    shutil.rmtree(folder / "rgb480_270")
    _, problems = read(tmp_path, "438")
    told = "has images smaller than requested (48x27 px, requested 96x54); enlarged"
    assert problems == [f"subject2/o2/3/cam4/rgb256 {told}"]


def test_read_finds_archives_unpacked_in_separate_folders(root: Path, true: dict[str, TrueClip]) -> None:
    for name in ("subject1", "subject2", "subject4", "action_labels"):
        (root / f"{name}_v1_1").mkdir()
        (root / name).rename(root / f"{name}_v1_1" / name)
    for clip, split in (("32", "train"), ("438", "train"), ("27", "test")):
        record, problems = read(root, clip, split)
        assert record is not None
        assert (check_clip(record, true[clip]), problems) == (NOTHING, [])


def test_read_accepts_upper_case_extensions(root: Path, true: dict[str, TrueClip]) -> None:
    for path in (root / TRAIN / "rgb").iterdir():
        path.rename(path.with_suffix(".PNG"))
    record, problems = read(root)
    assert record is not None
    assert (check_clip(record, true["32"]), problems) == (NOTHING, [])
