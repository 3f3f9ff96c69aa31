"""H2O: read as its folder is laid out, and whatever is missing or broken in it named."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from htt import console, scene
from htt.data import convert as converting
from htt.data import manifest
from htt.data.clips import open_split
from htt.data.source import open_source
from htt.data.sources import h2o
from htt.errors import DataError

SIZE = (128, 72)


def joints(number: int, hand: int) -> np.ndarray:
    return np.arange(63).reshape(21, 3) / 1000 + number / 100 + hand + 0.3


def write_frame(folder: Path, number: int, flags: tuple[int, int] = (1, 1), shade: int = 100) -> None:
    for name in ("rgb", "hand_pose", "obj_pose"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (shade, number, 50)).save(folder / "rgb" / f"{number:06d}.png")
    numbers = [part for hand in range(2) for part in (flags[hand], *joints(number, hand).ravel())]
    (folder / "hand_pose" / f"{number:06d}.txt").write_text(" ".join(f"{value:.6f}" for value in numbers) + "\n")
    (folder / "obj_pose" / f"{number:06d}.txt").write_text("4 " + " ".join(["0.1"] * 63))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two recordings: one of two training clips, one of a test clip."""
    labels = tmp_path / "action_labels"
    labels.mkdir()
    (labels / "action_train.txt").write_text(
        "id path action_label start_act end_act start_frame end_frame\n"
        "1 subject1/h1/0 16 0 3 0 449\n"
        "2 subject1/h1/0 23 5 6 0 449\n"
    )
    (labels / "action_test.txt").write_text(
        "id path start_act end_act start_frame end_frame\n1 subject4/h1/0 2 4 0 500\n"
    )
    for recording, last in (("subject1/h1/0", 6), ("subject4/h1/0", 4)):
        folder = tmp_path / recording / "cam4"
        for number in range(last + 1):
            write_frame(folder, number, flags=(1, int(number != 2)))
        (folder / "cam_intrinsics.txt").write_text("636.6593 636.2520 635.2839 366.8740 1280 720")
    return tmp_path


def run(root: Path, out: Path) -> None:
    options = converting.Options(source="h2o", root=root, out=out, width=64, height=48, workers=1)
    converting.main(options)


def test_reads_what_is_there(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "shards"
    run(root, out)
    assert "train: 2 clips, 6 frames in 1 shards" in capsys.readouterr().out
    assert list(manifest.verify(out).splits) == ["train", "test"]
    clips = open_split(out, "train")
    assert clips.info.actions == h2o.ACTIONS
    assert clips.ids == ["1", "2"]
    assert clips.subjects == ["subject1", "subject1"]
    assert clips.action.tolist() == [15, 22]
    assert clips.object.tolist() == [7, 4]
    assert clips.frame_counts.tolist() == [4, 2]
    assert clips.frame_numbers(1).tolist() == [5, 6]
    expected = [[636.6593 / 20, 0, 635.2839 / 20], [0, 636.2520 / 15, 366.8740 / 15], [0, 0, 1]]
    np.testing.assert_allclose(clips.intrinsics[0], expected)
    np.testing.assert_allclose(clips.joints(1)[0], np.concatenate([joints(5, 0), joints(5, 1)]), atol=1e-6)
    assert clips.hand_valid(0).tolist() == [[True, True], [True, True], [True, False], [True, True]]
    image = clips.decode(0, [3])[0]
    assert image.shape == (3, 48, 64)
    assert image.float().mean(dim=(1, 2)).tolist() == pytest.approx([100, 3, 50], abs=3)


def test_test_clips_have_no_action_and_the_object_they_show(root: Path, tmp_path: Path) -> None:
    run(root, tmp_path / "shards")
    clips = open_split(tmp_path / "shards", "test")
    assert clips.action.tolist() == [-1]
    assert clips.object.tolist() == [3]


def test_names_are_those_of_the_benchmark() -> None:
    assert h2o.ACTIONS == scene.ACTIONS
    assert h2o.OBJECTS == scene.OBJECTS


def test_takes_the_small_images_and_the_head_camera_release(root: Path, tmp_path: Path) -> None:
    (root / "subject1").rename(root / "subject1_ego")
    folder = root / "subject1_ego/h1/0/cam4"
    (folder / "rgb").rename(folder / "rgb256")
    (root / "action_labels").rename(root / "label_split")
    run(root, tmp_path / "shards")
    assert open_split(tmp_path / "shards", "train").frame_counts.tolist() == [4, 2]


def test_what_is_missing_or_broken_is_left_out_and_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "subject1/h1/0/cam4"
    (folder / "rgb/000000.png").unlink()
    line = (folder / "hand_pose/000001.txt").read_text()
    (folder / "hand_pose/000001.txt").write_text(line[: len(line) // 2])
    whole = (folder / "rgb/000002.png").read_bytes()
    (folder / "rgb/000002.png").write_bytes(whole[: len(whole) // 2])
    (folder / "hand_pose/000005.txt").unlink()
    (folder / "hand_pose/000006.txt").write_text(line.replace("1.000000", "nan", 1))
    run(root, tmp_path / "shards")
    shown = capsys.readouterr().out
    assert f"train: {folder}/rgb/000000.png is missing; the frame was left out" in shown
    assert f"train: {folder}/hand_pose/000001.txt has 64 numbers, not 128; the frame was left out" in shown
    assert f"train: {folder}/rgb/000002.png is no whole image" in shown
    assert f"train: {folder}/hand_pose/000005.txt is missing" in shown
    assert f"train: {folder}/hand_pose/000006.txt has numbers that are not finite" in shown
    assert f"{folder}: clip 2 has no readable frame; it was left out" in shown
    assert "6 files or clips were left out" in shown
    assert (tmp_path / "shards" / converting.LEFT_OUT).read_text().count("\n") == 6
    clips = open_split(tmp_path / "shards", "train")
    assert clips.ids == ["1"]
    assert clips.frame_numbers(0).tolist() == [3]


def test_words_for_numbers(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = root / "subject1/h1/0/cam4/hand_pose/000003.txt"
    path.write_text("left hand " * 64)
    run(root, tmp_path / "shards")
    assert f"{path} holds no numbers: could not convert" in capsys.readouterr().out


def test_missing_camera(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "subject1/h1/0/cam4/cam_intrinsics.txt").unlink()
    run(root, tmp_path / "shards")
    assert "cam4/cam_intrinsics.txt is missing; clip 1 was left out" in capsys.readouterr().out
    assert manifest.read(tmp_path / "shards").count("train") == (0, 0)
    with pytest.raises(DataError, match=r"'train' of .* holds none"):
        open_split(tmp_path / "shards", "train")


def test_broken_label_file_lists_its_lines(root: Path) -> None:
    path = root / "action_labels/action_train.txt"
    path.write_text(
        path.read_text() + "3 subject1/h1/0 44 5 6 0 449\n4 subject1/h1/0 1 9\n5 subject1/h1/0 1 9 2 0 449\n"
    )
    with pytest.raises(DataError) as error:
        open_source("h2o", root).clips("train")
    for part in ("line 4: an action is 1 to 36, this one is 44", "line 5: 7 words are", "line 6: the action ends in"):
        assert part in str(error.value)


def test_no_label_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"action_labels/action_train\.txt; it has none"):
        converting.convert(open_source("h2o", tmp_path), tmp_path / "out", converting.Making(64, 48))


def test_the_real_label_files_have_the_published_counts(tmp_path: Path) -> None:
    golden = Path(__file__).parents[2] / "golden/h2o_labels"
    (tmp_path / "action_labels").symlink_to(golden)
    source = open_source("h2o", tmp_path)
    counts = {
        split: (len(source.clips(split)), sum(key.frames for key in source.clips(split))) for split in source.splits
    }
    assert counts == {"train": (569, 55_747), "val": (122, 11_638), "test": (242, 23_391)}


@pytest.mark.ray
def test_same_bytes_from_two_workers(root: Path, tmp_path: Path) -> None:
    source = open_source("h2o", root)
    for workers in (1, 2):
        out = tmp_path / str(workers)
        converting.convert(source, out, converting.Making(64, 48, shard_bytes=2_000), workers=workers)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("1", "2"))
    assert one == two
    assert len(one) > 3


def test_progress_is_quiet_and_errors_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        console.run(converting.Options, converting.main, ["--source", "h2o", "--root", str(tmp_path), "--out", "x"])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
