"""``python -m htt.predict``: the numbers of an evaluation from a video, its files, and a sentence for bad input."""

import functools
import json
from typing import ClassVar

import av
import numpy as np
import polars as pl
import pytest
from PIL import Image

from htt import predict
from htt.camera import intrinsics
from htt.hand import JOINTS
from htt.inference import Predictor
from htt.testing import tiny_config, tiny_info


@pytest.fixture
def run(run_command, tmp_path, monkeypatch):
    """Run the command in a folder of its own, and return what it prints."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(run_command, predict)


@pytest.fixture(scope="module")
def predictor(trained):
    return Predictor.load(trained)


def words_of(matrix):
    return f"{matrix[0, 0]},{matrix[1, 1]},{matrix[0, 2]},{matrix[1, 2]}"


def test_video_without_loss_gives_the_numbers_of_an_evaluation(run, trained, predictor, clip, encode, tmp_path):
    frames, matrix = clip
    path = encode(tmp_path / "clip.mkv", frames, 15, codec="ffv1", pixels="bgr0")
    shown = run("--checkpoint", trained, "--video", path, "--intrinsics", words_of(matrix), "--no-overlay")
    expected = predictor(frames, matrix)
    found = pl.read_parquet(tmp_path / "predictions-clip" / "predictions.parquet")
    assert found["frame"].to_list() == list(range(len(frames)))
    np.testing.assert_allclose(found["time_s"], np.arange(len(frames)) / 15)
    np.testing.assert_allclose(found["joints_px"].to_numpy(), expected.joints_px, atol=1e-4)
    np.testing.assert_allclose(found["joints_m"].to_numpy(), expected.joints_m, atol=1e-6)
    assert found["object"].to_list() == [name for name, _ in expected.objects()]
    actions = expected.action_probabilities[expected.window]
    np.testing.assert_allclose(found["action_probabilities"].to_numpy(), actions, atol=1e-6)
    assert found["action"].to_list() == [predictor.info.actions[best] for best in actions.argmax(axis=1)]
    assert f"Action (mean of {len(expected.action_probabilities)} windows): {expected.top_actions()[0][0]}" in shown
    assert "64x36 px, 15 frames/s" in shown
    assert "frames/s" in shown
    assert "field of view" not in shown
    assert not (tmp_path / "predictions-clip" / "overlay.mp4").exists()


def test_compressed_video_costs_what_its_pixels_lost(run, trained, predictor, clip, encode, tmp_path):
    """H.264 with halved colour moves the joints of this untrained model by 6 mm at 64x36; the command adds nothing."""
    frames, matrix = clip
    path = encode(tmp_path / "clip.mp4", frames, 15)
    run("--checkpoint", trained, "--video", path, "--intrinsics", words_of(matrix), "--out", "out", "--no-overlay")
    found = pl.read_parquet(tmp_path / "out" / "predictions.parquet")["joints_m"].to_numpy()
    with av.open(str(path)) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    np.testing.assert_allclose(found, predictor(decoded, matrix).joints_m, atol=1e-6)
    moved_mm = 1000 * np.linalg.norm(found - predictor(frames, matrix).joints_m, axis=-1)
    assert 0 < moved_mm.mean() < 10


def test_table_names_joints_and_classes(run, trained, clip, encode, tmp_path):
    path = encode(tmp_path / "clip.mp4", clip[0], 15)
    shown = run("--checkpoint", trained, "--video", path, "--no-overlay", "--out", "out")
    about = json.loads(pl.read_parquet_metadata(tmp_path / "out" / "predictions.parquet")["htt"])
    assert about["joints"][:2] == [f"left {JOINTS[0]}", f"left {JOINTS[1]}"]
    assert (len(about["joints"]), len(about["actions"]), len(about["objects"])) == (42, 36, 8)
    np.testing.assert_allclose(about["intrinsics"], intrinsics(32, 32, 32, 18))
    assert "note: a horizontal field of view of 90 degrees is assumed, and every depth depends on it" in shown


def test_field_of_view_gives_the_focal_length(run, trained, clip, encode, tmp_path):
    path = encode(tmp_path / "clip.mp4", clip[0][:2], 15)
    shown = run("--checkpoint", trained, "--video", path, "--fov", 60, "--no-overlay", "--out", "out")
    about = json.loads(pl.read_parquet_metadata(tmp_path / "out" / "predictions.parquet")["htt"])
    assert about["intrinsics"][0][0] == pytest.approx(32 / np.tan(np.pi / 6))
    assert "is assumed" not in shown


def test_overlay_has_a_frame_for_each_row(run, trained, clip, encode, tmp_path):
    frames = clip[0]
    path = encode(tmp_path / "clip.mp4", frames, 15)
    run("--checkpoint", trained, "--video", path, "--out", "out", "--precision", "bf16", "--fuse")
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert float(container.streams.video[0].average_rate) == pytest.approx(15)
        drawn = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(drawn) == len(frames)
    assert drawn[0].shape[1] == 960
    small = np.array(Image.fromarray(drawn[3][:540]).resize((64, 36)))
    assert np.abs(small.astype(int) - frames[3]).mean() < 25, "the frame is below the drawing"
    assert drawn[3][545:600].max() > 200, "text below the frame"


def test_folder_of_images_is_predicted(run, trained, predictor, clip, tmp_path):
    frames, matrix = clip
    for index, frame in enumerate(frames):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "images" / f"{index}.png")
    shown = run("--checkpoint", trained, "--video", "images", "--intrinsics", words_of(matrix), "--no-overlay")
    found = pl.read_parquet(tmp_path / "predictions-images" / "predictions.parquet")
    np.testing.assert_allclose(found["joints_m"].to_numpy(), predictor(frames, matrix).joints_m, atol=1e-6)
    assert "images are taken to be 15 frames/s, the rate of the training" in shown


def test_other_rates_and_aspects_are_said(run, trained, encode, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (24, 96, 96, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mp4", frames, 30)
    shown = run("--checkpoint", trained, "--video", path, "--fov", 60, "--out", "a")
    assert "30 frames/s, 0.8 s; resampled to 15, the rate of the training" in shown
    assert "of another aspect ratio: the edges are cut off (--fit crop)" in shown
    assert len(pl.read_parquet(tmp_path / "a" / "predictions.parquet")) == 12
    shown = run("--checkpoint", trained, "--video", path, "--fov", 60, "--out", "b", "--fit", "letterbox")
    assert "black bars are added (--fit letterbox)" in shown


def test_one_frame_and_one_hand(run, save, encode, tmp_path):
    model = save(tmp_path / "checkpoint", tiny_config(), tiny_info(hands=1))
    path = encode(tmp_path / "a.mp4", np.full((1, 36, 64, 3), 90, np.uint8), 30)
    shown = run("--checkpoint", model, "--video", path, "--fov", 60, "--out", "out")
    found = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert found["joints_m"].to_numpy().shape == (1, 21, 3)
    assert "The model knows one hand, the right one: 21 joints per frame." in shown
    assert (tmp_path / "out" / "overlay.mp4").stat().st_size > 1000


def test_4k_video_is_predicted_in_its_own_pixels(run, trained, encode, tmp_path):
    path = encode(tmp_path / "a.mp4", np.full((2, 2160, 3840, 3), 90, np.uint8), 15, codec="mpeg4")
    shown = run("--checkpoint", trained, "--video", path, "--fov", 60, "--out", "out")
    assert "3840x2160 px" in shown
    assert pl.read_parquet(tmp_path / "out" / "predictions.parquet")["joints_px"].to_numpy().max() > 640
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert container.streams.video[0].width == 1280


def test_truncated_video_is_used_and_said(run, trained, encode, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 36, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.mkv", noise, 15, codec="mpeg4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    shown = run("--checkpoint", trained, "--video", path, "--fov", 60, "--out", "out")
    assert "warning:" in shown
    assert "is damaged or cut off" in shown
    assert 5 < len(pl.read_parquet(tmp_path / "out" / "predictions.parquet")) < 50


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give one source: --video FILE (or a folder of images), or --camera NUMBER."),
        (["--video", "a.mp4", "--camera", "0"], "Give one source"),
        (["--video", "a.mp4", "--fov", "60", "--intrinsics", "1,1,1,1"], "Cannot use both --intrinsics and --fov"),
        (["--video", "a.mp4", "--fov", "180"], "--fov must be a horizontal angle of 1 to 179 degrees; got 180."),
        (["--video", "a.mp4", "--intrinsics", "500,500,320"], "--intrinsics must be four numbers"),
        (["--video", "a.mp4", "--intrinsics", "500,-500,320,180"], "with positive focal lengths; got '500,-500"),
        (["--video", "a.mp4", "--intrinsics", "f,f,c,c"], "--intrinsics must be four numbers"),
        (["--video", "a.mp4"], "No such video: a.mp4."),
        (["--camera", "77"], "Cannot open the camera /dev/video77"),
        (["--camera", "0", "--show"], "--show needs a display, and this session has none"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(run, trained, monkeypatch, words, message):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    shown = run("--checkpoint", trained, *words, code=2)
    assert message in shown
    assert shown.count("error:") == 1


class Screen:
    """Window that keeps what it is shown, and is closed after some pictures."""

    pictures: ClassVar[list] = []
    most = 1000

    def __init__(self, title):
        Screen.pictures = []

    def show(self, image):
        Screen.pictures.append(image)
        return len(Screen.pictures) < Screen.most


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr("htt.inference.window.Window", Screen)
    monkeypatch.setattr(Screen, "most", 1000)
    return Screen


def test_shown_video_is_streamed_at_the_rate_of_a_window(run, trained, clip, encode, screen, tmp_path):
    frames = clip[0]
    path = encode(tmp_path / "clip.mp4", frames, 15)
    run("--checkpoint", trained, "--video", path, "--fov", 60, "--show")
    assert len(screen.pictures) == -(-len(frames) // 2), "data.spacing is 2"
    assert screen.pictures[0].shape[1] == 960
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"], "nothing is written"
    screen.most = 2
    run("--checkpoint", trained, "--video", path, "--fov", 60, "--show")
    assert len(screen.pictures) == 2, "the window was closed"


def test_camera_prints_its_actions(run, trained, predictor, clip, encode, monkeypatch, tmp_path):
    """A camera without a window: a line whenever the action is known anew."""
    from htt.video import VideoFile

    frames, matrix = clip
    path = encode(tmp_path / "clip.mkv", frames, 15, codec="ffv1", pixels="bgr0")
    monkeypatch.setattr("htt.video.open_camera", lambda number: VideoFile(path))
    shown = run("--checkpoint", trained, "--camera", 0, "--intrinsics", words_of(matrix))
    stream = predictor.stream(matrix)
    lines = [current.settled for current in map(stream, frames[::2]) if current.settled]
    assert shown.count("frames/s") == len(lines) + 1
    assert "up to 7.5 are used" in shown
