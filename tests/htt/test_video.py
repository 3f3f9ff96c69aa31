"""Frames of videos: each once at the file's rate, the nearest at another; turned, cut off, or no video at all."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from htt import video
from htt.errors import DataError
from htt.video import ImageFolder, VideoFile, at_rate, open_source, resampled, thinned


@pytest.fixture
def moving():
    """30 smooth frames, each brighter than the one before: compression can neither reorder nor join them."""
    rows, columns = np.mgrid[:48, :64]
    base = np.stack([rows * 2, columns * 2, np.full_like(rows, 40)], axis=-1)
    return np.stack([np.clip(base + 4 * index, 0, 255) for index in range(30)]).astype(np.uint8)


def brightness(frames):
    return [float(frame[8:-8, 8:-8].mean()) for frame in frames]


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_frames_are_each_read_once(tmp_path, moving, encode, name, codec):
    source = open_source(encode(tmp_path / name, moving, 30, codec=codec))
    assert source.size == (64, 48)
    assert source.frame_rate == pytest.approx(30)
    timed = list(source.frames())
    np.testing.assert_allclose([time for time, _ in timed], np.arange(30) / 30, atol=2e-3)
    np.testing.assert_allclose(brightness(frame for _, frame in timed), brightness(moving), atol=2)
    assert source.problem == ""
    same = list(at_rate(source, 30.0))
    assert len(same) == 30
    np.testing.assert_array_equal(same, [frame for _, frame in timed])


def test_half_and_double_rate_take_the_nearest_frames(tmp_path, moving, encode):
    source = open_source(encode(tmp_path / "a.mp4", moving, 30))
    half = brightness(at_rate(source, 15.0))
    np.testing.assert_allclose(half, brightness(moving[::2]), atol=2)
    double = brightness(at_rate(source, 60.0))
    assert len(double) == 59
    np.testing.assert_allclose(double[::2], brightness(moving), atol=2)


def test_variable_rate_is_resampled_by_the_times(tmp_path, moving, encode):
    """Ten frames at 10 a second, then ten at 30 a second: every second of video has as many frames."""
    times = [*np.arange(10) / 10, *(1 + np.arange(10) / 30)]
    source = open_source(encode(tmp_path / "a.mkv", moving[:20], 30, times=times))
    found = brightness(at_rate(source, 30.0))
    values = brightness(moving[:20])
    nearest = [int(np.abs(np.array(times) - index / 30).argmin()) for index in range(len(found))]
    assert len(found) in (40, 41)
    close = np.abs(np.array(found) - np.array(values)[nearest]) < 2
    assert close.mean() > 0.9, "but for ties between two frames"
    assert found == sorted(found)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_flag_turns_the_frames(tmp_path, moving, encode, turns):
    """The file's matrix says how a player shows the stored frames: clockwise by quarter turns."""
    path = encode(tmp_path / "a.mp4", moving, 30)
    matrix = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[turns]
    a, b, c, d = (value << 16 for value in matrix)
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    content = path.read_bytes()
    header = content.index(b"tkhd")
    place = content.index(identity, header)
    flagged = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content[:place] + flagged + content[place + len(identity) :])
    source = open_source(path)
    assert source.size == ((48, 64) if turns % 2 else (64, 48))
    expected = np.rot90(moving[3], -turns).astype(int)
    found = list(source.frames())[3][1].astype(int)
    assert np.abs(found - expected).mean() < 4


def test_odd_sizes_are_read(tmp_path, encode):
    frames = np.full((3, 35, 63, 3), 90, np.uint8)
    source = open_source(encode(tmp_path / "a.mkv", frames, 30, codec="ffv1", pixels="bgr0"))
    assert source.size == (63, 35)
    np.testing.assert_array_equal([frame for _, frame in source.frames()], frames)


def test_wide_pixels_become_square(tmp_path, moving, encode):
    source = open_source(encode(tmp_path / "a.mp4", moving, 30, aspect=Fraction(3, 2)))
    assert source.size == (96, 48)
    assert {frame.shape for _, frame in source.frames()} == {(48, 96, 3)}


def test_one_frame_is_a_video(tmp_path, moving, encode):
    source = open_source(encode(tmp_path / "a.mp4", moving[:1], 30))
    assert len(list(at_rate(source, 30.0))) == 1
    assert len(list(at_rate(source, 15.0))) == 1


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
def test_truncated_video_gives_its_remaining_frames(tmp_path, encode, name):
    noise = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / name, noise, 30, codec="mpeg4", index_first=name == "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(path)
    frames = list(source.frames())
    assert 10 < len(frames) < 45
    assert source.problem.startswith(f"{path} is damaged or cut off: {len(frames)} frames (")
    assert source.problem.endswith("could be decoded and are used.")


def test_truncated_mp4_has_no_index_and_is_refused(tmp_path, moving, encode):
    path = encode(tmp_path / "a.mp4", moving, 30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"Cannot read .*a\.mp4 as video: .*damaged or cut off; an mp4 file"):
        open_source(path)


def test_damaged_packets_are_skipped_and_said(tmp_path, encode):
    noise = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / "a.avi", noise, 30, codec="mjpeg", pixels="yuvj420p")
    content = bytearray(path.read_bytes())
    start = content.index(b"\xff\xd8", len(content) // 2)
    end = content.index(b"\xff\xd8", start + 2) - 16
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    source = open_source(path)
    assert 25 <= len(list(source.frames())) <= 29
    assert "is damaged or cut off" in source.problem


def test_sound_only_is_refused(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match=r"has no video: it has only audio\. Give a file with a video stream"):
        open_source(tmp_path / "a.mp4")


@pytest.mark.parametrize("content", [b"", b"no video", bytes(5000)])
def test_file_without_video_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"Cannot read .*a\.mp4 as video"):
        open_source(tmp_path / "a.mp4")


def test_missing_file_is_refused_and_a_number_is_a_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"No such video: none\.mp4\. Give a video file or a folder of images\.$"):
        open_source(Path("none.mp4"))
    with pytest.raises(DataError, match="For a camera, give its number: --camera 0"):
        open_source(Path("0"))


def test_folder_of_images_is_read_in_the_order_of_numbers(tmp_path, moving):
    for index in (10, 9, 1):
        Image.fromarray(moving[index]).save(tmp_path / f"frame{index}.png")
    (tmp_path / "notes.txt").write_text("")
    source = open_source(tmp_path)
    assert (source.size, source.frame_rate) == ((64, 48), None)
    np.testing.assert_array_equal(list(at_rate(source, 15.0)), moving[[1, 9, 10]])


def test_faulty_folders_of_images_are_refused(tmp_path, moving):
    with pytest.raises(DataError, match="No images in"):
        open_source(tmp_path)
    Image.fromarray(moving[0]).save(tmp_path / "1.png")
    Image.fromarray(moving[0][:20]).save(tmp_path / "2.png")
    with pytest.raises(DataError, match=r"must have one size: .*2\.png has 64x20, the first 64x48"):
        list(open_source(tmp_path).frames())
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    with pytest.raises(DataError, match=r"Cannot read the image .*2\.png"):
        list(ImageFolder(tmp_path).frames())


def test_missing_camera_is_refused(monkeypatch):
    with pytest.raises(DataError, match="Cannot open the camera /dev/video77"):
        video.open_camera(77)
    monkeypatch.setattr("platform.system", lambda: "Windows")
    with pytest.raises(DataError, match="by its number on Windows"):
        video.open_camera(0)


def test_resampling_of_exact_times():
    frames = [(time, np.array(value)) for value, time in enumerate([0.0, 0.1, 0.2, 0.3])]
    assert [int(frame) for frame in resampled(iter(frames), 10.0)] == [0, 1, 2, 3]
    assert [int(frame) for frame in resampled(iter(frames), 5.0)] == [0, 2]
    assert [int(frame) for frame in resampled(iter(frames[:1]), 10.0)] == [0]
    assert list(resampled(iter([]), 10.0)) == []


def test_camera_frames_are_thinned_without_delay():
    frames = [(index / 30, np.array(index)) for index in range(30)]
    assert [int(frame) for frame in thinned(iter(frames), 15.0)] == list(range(0, 30, 2))
    late = [(0.0, np.array(0)), (1.0, np.array(1)), (1.01, np.array(2)), (1.07, np.array(3))]
    assert [int(frame) for frame in thinned(iter(late), 15.0)] == [0, 1, 3], "no burst after a pause"


def test_video_file_names_its_duration(tmp_path, moving, encode):
    assert VideoFile(encode(tmp_path / "a.mp4", moving, 30)).seconds == pytest.approx(1.0, abs=0.05)
