"""FPHA: its folder layout, joints in its camera and our order, and messages about missing or damaged files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from htt import camera, console
from htt.data import convert as converting
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import open_split
from htt.data.shards import manifest
from htt.data.sources import ClipRecord, Problem, Source, fpha, open_source
from htt.data.sources.fpha import lists
from htt.errors import DataError
from htt.testing.trees import FPHA_ACTIONS, TrueClip, write_fpha
from htt.testing.truth import Lost, check_clip

CLIPS = {"train": 3, "test": 2}
FIRST = "Subject_1/open_juice_bottle/1"
NOTHING = Lost([], [], False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TrueClip]]:
    root = tmp_path_factory.mktemp("fpha")
    return root, write_fpha(root, CLIPS, frames=6)


@pytest.fixture
def root(written: tuple[Path, list[TrueClip]], tmp_path: Path) -> Path:
    """Copy of the folder, for a test to damage."""
    return Path(shutil.copytree(written[0], tmp_path / "fpha"))


@pytest.fixture
def true(written: tuple[Path, list[TrueClip]]) -> dict[str, TrueClip]:
    return {clip.id: clip for clip in written[1]}


def read(root: Path, clip: str = FIRST, split: str = "train") -> tuple[ClipRecord | None, list[str]]:
    source = open_source("fpha", root)
    record, problems = source.read(key(source, clip, split), 128, 72, 92)
    assert all(isinstance(problem, Problem) for problem in problems)
    return record, [str(problem) for problem in problems]


def key(source: Source, clip: str, split: str = "train"):
    return next(each for each in source.clips(split) if each.id == clip)


def skeleton(root: Path, clip: str = FIRST) -> Path:
    return root / "Hand_pose_annotation_v1" / clip / "skeleton.txt"


def change_lines(path: Path, change) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines) or lines) + "\n")


@pytest.mark.parametrize("size", [(128, 72), (64, 48)])
def test_convert_gives_true_joints_labels_and_intrinsics(
    root: Path, true: dict[str, TrueClip], tmp_path: Path, size: tuple[int, int]
) -> None:
    made, problems = convert(open_source("fpha", root), tmp_path / "out", Making(*size), workers=1)
    assert problems == []
    assert {split: made.count(split) for split in made.splits} == {"train": (3, 15), "test": (2, 11)}
    for split in made.splits:
        clips = open_split(tmp_path / "out", split)
        assert clips.info.hands == 1
        assert clips.info.actions == FPHA_ACTIONS
        assert len(clips.info.objects) == 26
        assert [check_clip(clip, true[clip.id]) for clip in clips] == [NOTHING] * CLIPS[split]
        assert set(clips.subjects) <= {"Subject_1", "Subject_2", "Subject_3"}
        assert clips.groups == clips.ids


def test_convert_gives_poses_without_images(
    root: Path, true: dict[str, TrueClip], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Most people have FPHA's skeletons and lists alone."""
    shutil.rmtree(root / "Video_files")
    skeleton(root, "Subject_2/close_juice_bottle/1").unlink()
    change_lines(skeleton(root), lambda lines: [line for number, line in enumerate(lines) if number != 2])
    words = ["--source", "fpha", "--root", str(root), "--out", str(tmp_path / "out"), "--workers", "1", "--poses-only"]
    console.run(converting.Options, converting.main, words)
    printed = capsys.readouterr().out
    assert "hands not known: Hand_pose_annotation_v1/Subject_1/open_juice_bottle/1/skeleton.txt, frame 2 has" in printed
    assert f"python tune/search.py --space poses --set data.source=fpha --set data.root={tmp_path / 'out'}" in printed
    made = manifest.read(tmp_path / "out")
    assert (made.poses_only, {split: made.count(split) for split in made.splits}) == (
        True,
        {"train": (2, 10), "test": (2, 11)},
    )
    for split in made.splits:
        for clip in open_split(tmp_path / "out", split):
            own = true[clip.id]
            assert (clip.jpegs, clip.action, clip.frame_numbers) == ([], own.action, own.numbers)
            known = clip.hand_valid[:, 0]
            assert np.flatnonzero(~known).tolist() == ([2] if clip.id == FIRST else [])
            np.testing.assert_allclose(clip.joints_m[known], own.joints_m[known], rtol=0, atol=1e-5)
            np.testing.assert_allclose(clip.intrinsics, camera.resized(own.intrinsics, 480 / 128, 270 / 72), rtol=1e-5)


def test_read_accepts_both_names_of_the_poses_folder(root: Path, true: dict[str, TrueClip]) -> None:
    (root / "Hand_pose_annotation_v1").rename(root / "Hand_pose_annotation_v1_1")
    record, problems = read(root)
    assert record is not None
    assert (check_clip(record, true[FIRST]), problems) == (NOTHING, [])


def test_read_converts_world_millimetres_to_camera_metres(root: Path) -> None:
    """Place joint n of FPHA at (n, 10 n, 400) mm; the tip of the index finger is FPHA's joint 11 and our joint 8."""
    joints = " ".join(f"{n} {10 * n} 400" for n in range(21))
    skeleton(root).write_text(f"3 {joints}\n")
    record, _ = read(root)
    assert record is not None
    assert record.hand_valid[:, 0].tolist() == [False, False, False, True, False, False]
    x = 0.999988496304 * 11 - 0.00468848412856 * 110 + 0.000982563360594 * 400 + 25.7
    y = 0.00469115935266 * 11 + 0.999985218048 * 110 - 0.00273845880292 * 400 + 1.22
    z = -0.000969709653873 * 11 + 0.00274303671904 * 110 + 0.99999576807 * 400 + 3.902
    np.testing.assert_allclose(record.joints_m[3, 8], [x / 1000, y / 1000, z / 1000], atol=1e-7)
    order = [round((point[1] * 1000 - 1.22 + 0.00273845880292 * 400) / 10) for point in record.joints_m[3].tolist()]
    assert order == [0, 1, 6, 7, 8, 2, 9, 10, 11, 3, 12, 13, 14, 4, 15, 16, 17, 5, 18, 19, 20]


def test_read_scales_documented_intrinsics(root: Path) -> None:
    record, _ = read(root)
    assert record is not None
    expected = np.array([[1395.749023, 0, 935.732544], [0, 1395.749268, 540.681030], [0, 0, 15]]) / 15
    np.testing.assert_allclose(record.intrinsics, expected)


def test_read_accepts_images_resized_by_the_released_code(root: Path, true: dict[str, TrueClip]) -> None:
    (root / "Video_files").rename(root / "Video_files_480")
    record, problems = read(root)
    assert record is not None
    assert problems == []
    assert check_clip(record, true[FIRST]) == NOTHING


def test_read_assigns_skeleton_lines_by_number(root: Path, true: dict[str, TrueClip]) -> None:
    change_lines(skeleton(root), lambda lines: lines.reverse())
    record, problems = read(root)
    assert record is not None
    assert problems == []
    assert check_clip(record, true[FIRST]) == NOTHING


def test_read_names_faults_of_a_skeleton(root: Path, true: dict[str, TrueClip]) -> None:
    def spoil(lines: list[str]) -> list[str]:
        far = lines[2].split()
        far[5] = "25000.0000"
        return [lines[0], lines[1] + " 7.0000", " ".join(far), lines[3], lines[3], lines[4], lines[5][:-2]]

    path = skeleton(root)
    path.write_text("\n".join(spoil(path.read_text().splitlines())))
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == Lost([], [1, 2, 3, 5], False)
    where = f"Hand_pose_annotation_v1/{FIRST}/skeleton.txt"
    last = path.read_text().split()[-1]
    assert problems == [
        f"{where}, line 2 to line 3 has invalid numbers (expected 64, got 65); line left out",
        f"{where}, line 7 is truncated (64 numbers, the last is '{last}'); line left out",
        f"{where}, frame 3 has several lines; line left out",
        f"{where}, frame 1 to frame 3 has no line of joints; hands not known",
        f"{where}, frame 5 has no line of joints; hands not known",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is missing"), ("", "is empty"), ("\n \n", "is empty"), ("0 1 2\n", "has no readable line")],
)
def test_read_leaves_out_clip_without_skeleton(root: Path, content: str | None, reason: str) -> None:
    if content is None:
        skeleton(root).unlink()
    else:
        skeleton(root).write_text(content)
    record, problems = read(root)
    assert record is None
    assert problems[-1] == f"Hand_pose_annotation_v1/{FIRST}/skeleton.txt {reason}; clip left out"


def test_read_names_ranges_of_missing_or_broken_images(root: Path, true: dict[str, TrueClip]) -> None:
    folder = root / "Video_files" / FIRST / "color"
    for number in (1, 2, 3):
        (folder / f"color_{number:04d}.jpeg").unlink()
    (folder / "color_0005.jpeg").write_bytes(b"no image")
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == Lost([1, 2, 3, 5], [], False)
    where = f"Video_files/{FIRST}/color"
    assert problems == [
        f"{where}/color_0001.jpeg to color_0003.jpeg is missing; frame left out",
        f"{where}/color_0005.jpeg is not a complete image (no known format); frame left out",
    ]


def test_read_names_differing_frame_counts(root: Path, true: dict[str, TrueClip]) -> None:
    info = root / "Subjects_info/Subject_1_info.txt"
    info.write_text(info.read_text().replace("open_juice_bottle 1 6", "open_juice_bottle 1 4"))
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == Lost([4, 5], [], False)
    assert problems == [
        f"{where} continues beyond its clip (2 up to frame 5, the clip has 4); the rest left out"
        for where in (f"Hand_pose_annotation_v1/{FIRST}/skeleton.txt", f"Video_files/{FIRST}/color")
    ]
    info.write_text(info.read_text().replace("open_juice_bottle 1 4", "open_juice_bottle 1 8"))
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == NOTHING
    assert problems == [f"Video_files/{FIRST}/color/color_0006.jpeg to color_0007.jpeg is missing; frame left out"]


@pytest.mark.parametrize("there", [True, False])
def test_read_counts_frames_in_skeleton_if_count_is_missing(root: Path, true: dict[str, TrueClip], there: bool) -> None:
    info = root / "Subjects_info/Subject_1_info.txt"
    if there:
        change_lines(info, lambda lines: lines[:3])
    else:
        info.unlink()
    assert key(open_source("fpha", root), FIRST).frames == 6
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == NOTHING
    why = "has no row for it" if there else "is missing"
    assert problems == [
        f"clip {FIRST} has no number of frames in Subjects_info (Subject_1_info.txt {why}); "
        "frames counted in its skeleton.txt"
    ]


def test_read_handles_a_huge_frame_count(root: Path, true: dict[str, TrueClip]) -> None:
    info = root / "Subjects_info/Subject_1_info.txt"
    info.write_text(info.read_text().replace("open_juice_bottle 1 6", "open_juice_bottle 1 99999"))
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == NOTHING
    assert problems == [f"Video_files/{FIRST}/color/color_0006.jpeg to color_99998.jpeg is missing; frame left out"]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (lists.SPLIT, "Training 3", "Training 600", "train has 3 clips, its header says 600"),
        (lists.SPLIT, "Training 3", "Training x", "line 1: 'x' is not a whole number"),
        (lists.SPLIT, "Test 2", "", "missing line 'Test ...'"),
        (lists.SPLIT, "juice_bottle/2", "juice_bottle/1", f"line 6: {FIRST} occurs again"),
        (lists.SPLIT, "/pour_juice_bottle/", "/eat_soup/", "the action eat_soup is not in action"),
        (lists.SPLIT, FIRST, "../../etc/1", "line 2: '../../etc/1 0' is not a clip such as"),
        (
            lists.SPLIT,
            f"{FIRST} 0",
            f"{FIRST} 2",
            "open_juice_bottle has class 2, but in action_object_info.txt it",
        ),
        (lists.SPLIT, f"{FIRST} 0", f"{FIRST} x", "line 2: 'x' is not a whole number"),
        (lists.TABLE, "6 prick", "7 prick", "row 6 has number 7"),
        (lists.TABLE, "6 prick object_6", "6 prick", "row 6 has 4 words, most have 5"),
        (lists.TABLE, "6 prick", "6 stir", "row 10 repeats the action stir"),
    ],
)
def test_clips_refuse_invalid_lists(root: Path, file: str, old: str, new: str, message: str) -> None:
    path = root / file
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError) as error:
        open_source("fpha", root).clips("train")
    assert str(error.value).startswith(f"Invalid {path}: expected ")
    assert message in str(error.value)


@pytest.mark.parametrize("file", [lists.SPLIT, lists.TABLE])
@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_clips_refuse_unreadable_lists(root: Path, file: str, content: bytes | None) -> None:
    (root / file).unlink() if content is None else (root / file).write_bytes(content)
    with pytest.raises(DataError, match="is missing" if content is None else r"is not text \(byte 0 is not UTF-8\)"):
        open_source("fpha", root).clips("train")


def test_differences_compare_with_published_counts(root: Path) -> None:
    change_lines(root / lists.TABLE, lambda lines: lines[:26])
    assert open_source("fpha", root).differences() == [
        "train: 3 clips; published are 600",
        "test: 2 clips; published are 575",
        "26 frames in all; published are 105,459",
        "25 actions; published are 45",
        "25 objects; published are 26",
    ]


def test_source_refuses_missing_folder(tmp_path: Path) -> None:
    for root in (None, tmp_path / "gone"):
        with pytest.raises(DataError, match=r"must be the folder FPHA was unpacked to; got .*, which is not a folder"):
            fpha.source(root, None)


def test_convert_command_prints_differences(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    converting.main(converting.Options(source="fpha", root=root, out=tmp_path / "out", width=64, height=36, workers=1))
    assert "26 frames in all; published are 105,459" in capsys.readouterr().out


def test_clips_refuse_table_in_another_class_order(root: Path) -> None:
    """The released weights use the classes of the split file; another order would permute them silently."""

    def swap(lines: list[str]) -> list[str]:
        one, other = lines[1].split(), lines[2].split()
        return [lines[0], " ".join([one[0], *other[1:]]), " ".join([other[0], *one[1:]]), *lines[3:]]

    change_lines(root / lists.TABLE, swap)
    told = "open_juice_bottle has class 0, but in action_object_info.txt it is row 2"
    with pytest.raises(DataError, match=rf"line 2: {told}; line 3: close_juice_bottle has class 1, .* row 1"):
        open_source("fpha", root).clips("train")


def test_read_rejects_skeleton_line_of_zeros(root: Path, true: dict[str, TrueClip]) -> None:
    """The world's origin lies 26 mm before the lens, and projects far outside the image."""
    change_lines(skeleton(root), lambda lines: [*lines[:2], "2 " + " ".join(["0"] * 63), *lines[3:]])
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == Lost([], [2], False)
    where = f"Hand_pose_annotation_v1/{FIRST}/skeleton.txt"
    assert problems == [
        f"{where}, line 3 has invalid numbers (a joint is 0.026 m from the camera); line left out",
        f"{where}, frame 2 has no line of joints; hands not known",
    ]


def test_read_uses_most_complete_folders(root: Path, true: dict[str, TrueClip]) -> None:
    shutil.copytree(root / "Video_files", root / "Video_files_480")
    (root / "Video_files" / FIRST / "color/color_0003.jpeg").unlink()
    shutil.copytree(root / "Hand_pose_annotation_v1", root / "poses/Hand_pose_annotation_v1_1")
    change_lines(skeleton(root), lambda lines: lines[:2])
    shutil.rmtree(skeleton(root, "Subject_2/close_juice_bottle/1").parent)
    record, problems = read(root)
    assert record is not None
    assert check_clip(record, true[FIRST]) == NOTHING
    used = f"poses/Hand_pose_annotation_v1_1/{FIRST}/skeleton.txt is one of several skeleton files of its clip"
    folder = f"Video_files_480/{FIRST}/color is one of several folders with its images"
    assert problems == [
        f"{used} (6 frames; Hand_pose_annotation_v1/{FIRST}/skeleton.txt has 2); used",
        f"{folder} (6 of 6 frames; Video_files/{FIRST}/color has 5); used",
    ]
    record, _ = read(root, "Subject_2/close_juice_bottle/1")
    assert record is not None
    assert check_clip(record, true["Subject_2/close_juice_bottle/1"]) == NOTHING


def test_read_finds_archives_unpacked_in_separate_folders(root: Path, true: dict[str, TrueClip]) -> None:
    for name in ("Video_files", "Hand_pose_annotation_v1", "Subjects_info"):
        (root / f"{name}_zip").mkdir()
        (root / name).rename(root / f"{name}_zip" / name)
    record, problems = read(root)
    assert record is not None
    assert (check_clip(record, true[FIRST]), problems) == (NOTHING, [])
