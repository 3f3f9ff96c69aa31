"""Images: resized without aliasing, decoded at a reduced scale where that is faster, refused if incomplete."""

from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from htt.data.sources import UnreadableError, _images


@pytest.fixture
def picture() -> np.ndarray:
    """[360 640 3] smooth waves, which a JPEG keeps."""
    y, x = np.mgrid[:360, :640] / 40
    return (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)).astype(np.uint8)


def saved(path: Path, image: np.ndarray) -> Path:
    Image.fromarray(image).save(path, **({"quality": 98, "subsampling": 0} if path.suffix == ".jpg" else {}))
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_read_averages_the_area_of_a_pixel(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    image, size = _images.read(saved(tmp_path / f"image{suffix}", picture), 80, 45)
    assert size == (640, 360)
    assert image.shape == (45, 80, 3)
    expected = picture.reshape(45, 8, 80, 8, 3).mean(axis=(1, 3))
    assert np.abs(image - expected).max() < 8


def test_read_keeps_image_of_requested_size(tmp_path: Path, picture: np.ndarray) -> None:
    image, size = _images.read(saved(tmp_path / "image.png", picture), 640, 360)
    assert size == (640, 360)
    np.testing.assert_array_equal(image, picture)


@pytest.mark.parametrize(
    ("wanted", "decoded"), [((160, 90), (320, 180)), ((161, 91), (640, 360)), ((40, 22), (80, 45))]
)
def test_read_decodes_large_jpeg_at_twice_the_size_or_more(
    tmp_path: Path,
    picture: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    wanted: tuple[int, int],
    decoded: tuple[int, int],
) -> None:
    path = saved(tmp_path / "image.jpg", picture)
    with Image.open(path) as opened:
        opened.draft("RGB", (2 * wanted[0], 2 * wanted[1]))
        expected = np.asarray(opened.resize(wanted, Image.Resampling.BILINEAR))
    sizes = []
    resize = Image.Image.resize

    def spy(self: Image.Image, *rest: object) -> Image.Image:
        sizes.append(self.size)
        return resize(self, *rest)

    monkeypatch.setattr(Image.Image, "resize", spy)
    image, size = _images.read(path, *wanted)
    np.testing.assert_array_equal(image, expected)
    assert sizes == [decoded]
    assert size == (640, 360)
    assert image.shape == (*wanted[::-1], 3)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_read_converts_other_modes_to_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (64, 36), (90, 90, 90)).convert(mode).save(tmp_path / "image.png")
    image, _ = _images.read(tmp_path / "image.png", 32, 18)
    assert image.shape == (18, 32, 3)
    assert image.mean(axis=(0, 1)) == pytest.approx([90, 90, 90], abs=1)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_read_refuses_truncated_image(tmp_path: Path, picture: np.ndarray, suffix: str, share: float) -> None:
    path = saved(tmp_path / f"image{suffix}", picture)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UnreadableError, match="is not a complete image"):
        _images.read(path, 80, 45)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("length", [64, 256, 4096])
def test_read_refuses_an_image_with_a_hole(tmp_path: Path, picture: np.ndarray, suffix: str, length: int) -> None:
    """Write zero bytes inside, as a bad disk or download does; a decoder that is not strict would accept them."""
    noisy = picture + np.random.default_rng(0).integers(0, 20, picture.shape, dtype=np.uint8)
    path = saved(tmp_path / f"image{suffix}", noisy)
    whole = path.read_bytes()
    for place in np.linspace(700, len(whole) - length - 10, 20).astype(int):
        path.write_bytes(whole[:place] + bytes(length) + whole[place + length :])
        with pytest.raises(UnreadableError, match="is not a complete image"):
            _images.read(path, 80, 45)


@pytest.mark.parametrize(("mode", "dtype"), [("I;16", np.uint16), ("I", np.int32), ("F", np.float32)])
def test_read_refuses_images_of_more_than_8_bits(tmp_path: Path, mode: str, dtype: type) -> None:
    Image.fromarray(np.full((36, 64), 20_000, dtype)).save(tmp_path / "image.tiff")
    with pytest.raises(UnreadableError, match=rf"is not an image with 8 bits per channel \(its mode is {mode}\)"):
        _images.read(tmp_path / "image.tiff", 32, 18)


def test_size_of_reads_the_head_of_an_image(tmp_path: Path, picture: np.ndarray) -> None:
    path = saved(tmp_path / "image.png", picture)
    assert _images.size_of(path) == (640, 360)
    path.write_bytes(b"nothing")
    assert _images.size_of(path) is None
    assert _images.size_of(tmp_path / "gone.png") is None


def test_read_refuses_files_that_are_no_image(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    huge = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\xff\xff" * 2 + b"\x08\x02\0\0\0"
    (tmp_path / "huge.png").write_bytes(huge + b"\0\0\0\0")
    for name, reason in (
        ("gone.png", "is missing"),
        ("text.png/000000.png", "is missing"),
        ("folder.png", "is a folder"),
        ("text.png", r"is not a complete image \(no known format\)"),
        ("empty.png", r"is not a complete image \(no known format\)"),
        ("huge.png", "is not a complete image"),
    ):
        with pytest.raises(UnreadableError, match=f"{name} {reason}"):
            _images.read(tmp_path / name, 80, 45)


def test_encode_preserves_the_image(picture: np.ndarray) -> None:
    again = simplejpeg.decode_jpeg(_images.encode(picture[:, ::-1], 95), "RGB")
    assert np.abs(again.astype(int) - picture[:, ::-1]).mean() < 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff"])
def test_image_is_turned_by_its_exif_orientation(tmp_path: Path, suffix: str) -> None:
    upright = Image.fromarray(np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((64, 64), np.uint8)))
    turns = [None, *(Image.Transpose(each) for each in (0, 3, 1, 5, 2, 6, 4))]  # what the camera did, by orientation
    for orientation, turn in enumerate(turns, start=1):
        exif, path = Image.Exif(), tmp_path / f"{orientation}{suffix}"
        exif[0x0112] = orientation
        (upright if turn is None else upright.transpose(turn)).save(path, exif=exif)
        image, size = _images.read(path, 96, 64)
        assert size == _images.size_of(path) == (192, 128)
        wanted = np.asarray(upright.convert("RGB").resize((96, 64), Image.Resampling.BILINEAR))
        assert np.abs(image.astype(int) - wanted).max() < 12, orientation


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_image_with_broken_exif_is_read_as_it_is_stored(tmp_path: Path) -> None:
    Image.new("RGB", (64, 36), "red").save(tmp_path / "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff broken")
    assert _images.read(tmp_path / "a.jpg", 32, 18)[1] == (64, 36)
