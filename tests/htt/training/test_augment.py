"""Augmentation: colours as defined, shared by a window, targets that stay on their pixels, nothing when all is 0."""

import colorsys
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from htt.batch import Batch
from htt.config import AugmentConfig
from htt.training import augment as augmentation
from htt.training import colour
from htt.training.augment import augment, blur

OFF = AugmentConfig(hue=0.0, saturation=0.0, contrast=0.0, brightness=0.0, centre=0.0, blur_px=0.0)
HEIGHT, WIDTH = 12, 20


def only(**fields: float) -> AugmentConfig:
    return OFF.model_copy(update=fields)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(images: Tensor, counts: list[int]) -> Batch:
    """A batch of [n 3 h w] images in windows of ``counts`` frames, each with joints all over the image."""
    count, windows = len(images), len(counts)
    return Batch(
        frames=images.contiguous(memory_format=torch.channels_last),
        valid=torch.arange(max(counts)) < torch.tensor(counts)[:, None],
        intrinsics=torch.eye(3).repeat(windows, 1, 1),
        joints_m=torch.ones(count, 21, 3),
        joints_px=torch.rand(count, 21, 2, generator=generator(3)) * torch.tensor([WIDTH, HEIGHT]),
        joint_valid=torch.ones(count, 21, dtype=torch.bool),
        object=torch.zeros(count, dtype=torch.long),
        action=torch.zeros(windows, dtype=torch.long),
        clip=torch.zeros(windows, dtype=torch.long),
        frame=torch.arange(count),
        view=torch.zeros(windows, dtype=torch.long),
        labelled=torch.ones(windows, dtype=torch.bool),
    )


@pytest.fixture
def batch() -> Batch:
    images = torch.randint(0, 256, (7, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator(1))
    return batch_of(images, [4, 1, 2])


def test_augment_of_zeros_returns_plain_pixels(batch: Batch) -> None:
    seen = augment(batch, OFF, generator())
    assert torch.equal(seen.frames, batch.frames.float() / 255)
    assert torch.equal(seen.joints_px, batch.joints_px)
    assert seen.frames.is_contiguous(memory_format=torch.channels_last)


def test_augment_follows_its_generator(batch: Batch) -> None:
    one, same, other = (augment(batch, AugmentConfig(), generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.frames, same.frames)
    assert torch.equal(one.joints_px, same.joints_px)
    assert not torch.equal(one.frames, other.frames)
    assert one.frames.min() >= 0
    assert one.frames.max() <= 1
    assert torch.equal(one.intrinsics, batch.intrinsics)
    assert torch.equal(one.joints_m, batch.joints_m)


def test_augment_is_equal_in_pieces(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = augment(batch, AugmentConfig(), generator())
    monkeypatch.setattr(augmentation, "CACHED_VALUES", 1)
    assert torch.equal(augment(batch, AugmentConfig(), generator()).frames, whole.frames)


def test_augment_shares_colour_and_shift_within_a_window() -> None:
    image = torch.randint(0, 256, (1, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator(1))
    seen = augment(batch_of(image.repeat(5, 1, 1, 1), [3, 2]), AugmentConfig(blur_px=0.0), generator())
    assert torch.equal(seen.frames[0], seen.frames[2])
    assert torch.equal(seen.frames[3], seen.frames[4])
    assert not torch.equal(seen.frames[0], seen.frames[3])


def test_augment_draws_blur_per_frame() -> None:
    image = torch.randint(0, 256, (1, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=generator(1))
    seen = augment(batch_of(image.repeat(3, 1, 1, 1), [3]), only(blur_px=2.0), generator())
    assert not torch.equal(seen.frames[0], seen.frames[1])


def test_augment_moves_targets_with_the_image() -> None:
    images = torch.zeros(4, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    images[:, :, 6, 10] = 255
    batch = batch_of(images, [1, 1, 1, 1])
    batch.joints_px[:] = torch.tensor([10.5, 6.5])  # the centre of that pixel
    seen = augment(batch, only(centre=0.25), generator(2))
    for frame, joints in zip(seen.frames, seen.joints_px, strict=True):
        ((row, column),) = frame[0].nonzero().tolist()
        assert joints[0].tolist() == [column + 0.5, row + 0.5]
    assert len({tuple(joints[0].tolist()) for joints in seen.joints_px}) > 1
    assert (seen.joints_px - torch.tensor([10.5, 6.5])).abs().max() <= 5


def test_augment_fills_with_black() -> None:
    images = torch.full((1, 3, HEIGHT, WIDTH), 255, dtype=torch.uint8)
    seen = augment(batch_of(images, [1]), only(centre=0.5), generator(4))
    right, down = (seen.joints_px - batch_of(images, [1]).joints_px)[0, 0].round().abs().tolist()
    lit = max(0, WIDTH - right) * max(0, HEIGHT - down)
    assert seen.frames[0, 0].sum() == lit < WIDTH * HEIGHT


def test_colours_by_hand() -> None:
    pixel = torch.tensor([0.8, 0.4, 0.2])
    images = pixel[:, None, None, None].repeat(1, 1, 1, 2)
    images[:, 0, 0, 1] = 0
    shade = 0.299 * 0.8 + 0.587 * 0.4 + 0.114 * 0.2
    assert colour.brightness_(images.clone(), 1.5)[:, 0, 0, 0].tolist() == pytest.approx([1.0, 0.6, 0.3])
    expected = [0.5 * value + 0.5 * shade / 2 for value in pixel.tolist()]
    assert colour.contrast_(images.clone(), 0.5)[:, 0, 0, 0].tolist() == pytest.approx(expected)
    expected = [0.5 * value + 0.5 * shade for value in pixel.tolist()]
    assert colour.saturation_(images.clone(), 0.5)[:, 0, 0, 0].tolist() == pytest.approx(expected)


colours = st.integers(0, 255)


@given(pixel=st.tuples(colours, colours, colours), turn=st.floats(-0.5, 0.5))
def test_hue_equals_hsv(pixel: tuple[int, int, int], turn: float) -> None:
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in pixel))
    expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
    images = torch.tensor(pixel, dtype=torch.float32)[:, None, None, None] / 255
    assert colour.hue_(images, turn)[:, 0, 0, 0].tolist() == pytest.approx(expected, abs=2e-6)


def test_blur_is_gaussian() -> None:
    images = torch.zeros(3, 2, 15, 15)
    images[:, :, 7, 7] = 1
    blurred = blur(images, torch.tensor([0.0, 1.3]), 1.3)
    assert torch.equal(blurred[:, 0], images[:, 0])
    line = np.exp(-0.5 * ((np.arange(15) - 7) / 1.3) ** 2)
    line[abs(np.arange(15) - 7) > math.floor(1.3 * 3.717)] = 0
    line /= line.sum()
    np.testing.assert_allclose(blurred[1, 1], np.outer(line, line), atol=1e-7)


def test_blur_keeps_a_constant_image() -> None:
    images = torch.full((3, 2, 5, 4), 0.3)
    torch.testing.assert_close(blur(images, torch.tensor([0.4, 3.0]), 3.0), images)


def test_augment_blurs_before_it_changes_colours() -> None:
    """As the released code does; the other order differs wherever a colour is cut off at white."""
    images = torch.zeros(1, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    images[:, :, 6, 10] = 255
    seeds = [seed for seed in range(20) if augment(batch_of(images, [1]), only(brightness=0.5), generator(seed))
             .frames.max() == 1]  # fmt: skip
    assert seeds, "in one of them brightness must rise"
    seed = seeds[0]
    blurred = augment(batch_of(images, [1]), only(blur_px=2.0), generator(seed)).frames
    draws = generator(seed)
    factor = 1 + 0.5 * (2 * torch.rand(1, 10, generator=draws)[0, 0].item() - 1)
    seen = augment(batch_of(images, [1]), only(blur_px=2.0, brightness=0.5), generator(seed)).frames
    torch.testing.assert_close(seen, (blurred * factor).clamp(0, 1))
    assert not torch.allclose(seen, blurred)


def test_augment_truncates_a_shift_to_whole_pixels() -> None:
    """A shift of -1.9 to 1.9 px moves by at most one: the released code cuts, it does not round."""
    images = torch.zeros(200, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    batch = batch_of(images, [1] * 200)
    moved = (augment(batch, only(centre=1.9 / WIDTH), generator()).joints_px - batch.joints_px).round()
    assert moved.unique().tolist() == [-1, 0, 1]
