"""Conversion command: its output and errors, and equal shards after a kill and with any number of workers."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from htt import console, parallel
from htt.data import convert as converting
from htt.data.conversion.run import convert
from htt.data.conversion.state import STATE, Making
from htt.data.sources import open_source


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != ".lock"}


def _write_h2o(root: Path, clips: dict[str, tuple[int, int]]) -> None:
    """Write one recording of 16 frames in H2O's format, shared by ``clips[split]`` = (clips, frames of each)."""
    frames = root / "subject1/h1/0/cam4"
    for folder in ("rgb", "hand_pose"):
        (frames / folder).mkdir(parents=True)
    frames.joinpath("cam_intrinsics.txt").write_text("636.5 636.25 635.25 366.75 1280 720\n")
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (16, 36, 64, 3), dtype=np.uint8)
    for number, image in enumerate(coarse):
        image = np.kron(image, np.ones((20, 20, 1), np.uint8))
        (frames / f"rgb/{number:06d}.jpg").write_bytes(simplejpeg.encode_jpeg(image, 90))
        hand = "1 " + " ".join(["0.1 0.05 0.500000"] * 21)
        (frames / f"hand_pose/{number:06d}.txt").write_text(f"{hand} {hand}\n")
    (root / "action_labels").mkdir()
    for split, (count, length) in clips.items():
        action = "" if split == "test" else "1 "
        lines = ["id path " + ("action_label " if action else "") + "start_act end_act start_frame end_frame"]
        for index in range(1, count + 1):
            lines.append(f"{index} subject1/h1/0 {action}{index % 4} {index % 4 + length - 1} 0 15")
        (root / f"action_labels/action_{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def h2o(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H2O of a few clips whose second split takes seconds to convert."""
    root = tmp_path_factory.mktemp("h2o")
    _write_h2o(root, {"train": (2, 4), "val": (30, 12), "test": (3, 5)})
    return root


@pytest.fixture(scope="module")
def undisturbed(h2o: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of ``h2o``, made by one worker without interruption."""
    out = tmp_path_factory.mktemp("undisturbed")
    convert(open_source("h2o", h2o), out, Making(480, 270), workers=1)
    return out


@pytest.mark.ray
@pytest.mark.slow
def test_convert_resumes_after_kill(h2o: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Kill after the first finished shard; the second run keeps it and gives the bytes of an undisturbed run."""
    command = [sys.executable, "-m", "htt.data.convert", "--source", "h2o", "--root", str(h2o), "--out", str(tmp_path)]
    killed = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    with killed:
        _wait_for(lambda: (tmp_path / STATE).is_file() or killed.poll() is not None)
        killed.send_signal(signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob("*.arrow")] == ["train-00000.arrow"]
    before = (tmp_path / "train-00000.arrow").stat()
    again = subprocess.run([*command, "--workers", "2"], capture_output=True, text=True, timeout=600)
    assert (again.returncode, again.stderr) == (0, "")
    assert "35/35 clips" in again.stdout
    after = (tmp_path / "train-00000.arrow").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert contents(tmp_path) == contents(undisturbed)


def _wait_for(there: Callable[[], bool], seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.ray
@pytest.mark.slow
def test_convert_gives_same_bytes_with_any_number_of_workers(h2o: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Check also many small shards, which several workers write at once."""
    small = Making(64, 48, shard_bytes=30_000)
    with parallel.ray_here(3):
        for workers in (2, 3):
            convert(open_source("h2o", h2o), tmp_path / str(workers), Making(480, 270), workers=workers)
        for workers in (1, 3):
            convert(open_source("h2o", h2o), tmp_path / f"small-{workers}", small, workers=workers)
    assert contents(tmp_path / "2") == contents(tmp_path / "3") == contents(undisturbed)
    assert contents(tmp_path / "small-3") == contents(tmp_path / "small-1")
    assert len(list((tmp_path / "small-1").glob("*.arrow"))) > 6


def _run(*words: object) -> int:
    """Return the exit code of a command line."""
    try:
        console.run(converting.Options, converting.main, [str(word) for word in words])
    except SystemExit as left:
        return int(left.code or 0)
    return 0


def test_convert_prints_summary_problems_and_next_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check the printed clips, shards, problems and next commands; a second call prints the same."""
    root, out = tmp_path / "root", tmp_path / "the shards"
    _write_h2o(root, {"train": (2, 4), "val": (3, 5)})
    frames = root / "subject1/h1/0/cam4"
    (frames / "rgb/000001.jpg").unlink()
    (frames / "hand_pose/000003.txt").unlink()
    words = ("--source", "h2o", "--root", root, "--out", out, "--width", 64, "--height", 36, "--workers", 1)
    assert _run(*words) == 0
    first = capsys.readouterr().out.splitlines()
    assert first[0] == "Found h2o: train 2 clips, 8 frames; val 3 clips, 15 frames"
    assert [line for line in first if line.startswith("note: ")] == [
        f"note: {difference}" for difference in open_source("h2o", root).differences()
    ]
    sizes = [(out / f"{split}-00000.arrow").stat().st_size / 1e6 for split in ("train", "val")]
    table = first.index("split  clips  frames   MB  clips left out  frames left out  hands not known")
    assert [line.split() for line in first[table + 1 : table + 4]] == [
        ["train", "2", "7", f"{sizes[0]:.1f}", "0", "1", "2"],
        ["val", "3", "14", f"{sizes[1]:.1f}", "0", "1", "3"],
        ["all", "5", "21", f"{sum(sizes):.1f}", "0", "2", "5"],
    ]
    assert first[table + 5 : -4] == [
        "Problems, with an example of each kind:",
        "  5 x hands not known: subject1/h1/0/cam4/hand_pose/000003.txt is missing",
        "  2 x frame left out: subject1/h1/0/cam4/rgb/000001.png is missing",
        f"All 7 are listed in {out / 'left_out.txt'}.",
    ]
    assert first[-4:] == [
        "",
        "Next:",
        f"  python cluster/launch.py --preset paper --set data.source=h2o --set 'data.root={out}'",
        f"  python tune/search.py --space paper --set data.source=h2o --set 'data.root={out}'",
    ]
    assert _run(*words) == 0
    assert capsys.readouterr().out.splitlines()[-len(first[table:]) :] == first[table:]


def test_convert_refuses_invalid_options(tmp_path: Path, h2o: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*words: object) -> str:
        assert _run(*words) == 2
        return capsys.readouterr().err

    out, file = tmp_path / "out", tmp_path / "file"
    file.touch()
    text = refused("--source", "h20", "--out", out, "--quality", 0, "--width", 3, "--workers", 0)
    assert "--width must be 16 to 16384; got 3; --quality must be 1 to 100; got 0; --workers must be 1 to" in text
    assert "--root is required: the folder of the data set." in text
    assert "No 'h20' in sources. Available: fpha, frames, h2o, synthetic. Did you mean 'h2o'?" in text
    assert "which is not a folder" in refused("--source", "h2o", "--root", tmp_path / "gone", "--out", out)
    for inside in (h2o, h2o / "shards", h2o / "subject1" / ".." / "x"):
        assert "--out must be outside --root" in refused("--source", "h2o", "--root", h2o, "--out", inside)
    for place in (file, file / "below"):
        text = refused("--source", "h2o", "--root", h2o, "--out", place)
        assert f"--out must be a folder or a new path; got {place}, but {file} is a file" in text
    text = refused("--source", "h2o", "--root", h2o, "--out", "s3://bucket/h2o")
    assert (
        "--out must be a local folder; got s3://bucket/h2o. Convert into a local folder, then copy it: python -m "
        in text
    )
    assert "htt.data.publish --shards FOLDER --to s3://bucket/h2o" in text
    assert not out.exists()
    assert not Path("s3:").exists()
