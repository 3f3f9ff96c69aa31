"""Scattering valid frames into windows, and back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from htt.batch import Layout, gather, place, scatter, take, window_of_frame
from htt.testing import random_batch, tiny_info


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_gather_undoes_scatter(lengths):
    valid = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    values = torch.rand(int(valid.sum()), 3)
    spread = scatter(values, valid)
    assert torch.equal(gather(spread, valid), values)
    assert (spread[~valid] == 0).all()
    assert window_of_frame(valid).tolist() == [w for w, length in enumerate(lengths) for _ in range(length)]


@pytest.mark.parametrize(("lengths", "padding", "window"), [((5, 8), 0, 4), ((1, 7, 3), 5, 3), ((4,), 0, 16)])
def test_layout_places_frames_where_the_mask_has_them(lengths, padding, window):
    valid = torch.arange(max(lengths) + padding) < torch.tensor(lengths)[:, None]
    layout = Layout.of(valid, window)
    values = torch.randn(sum(lengths), 3)
    placed = place(values, layout.slot, valid.shape)
    assert torch.equal(placed, scatter(values, valid))
    assert torch.equal(take(placed, layout.slot), values)
    assert torch.equal(layout.window, window_of_frame(valid))
    assert layout.counts == lengths
    in_windows = place(values, layout.pose_slot, layout.pose_valid.shape)
    assert torch.equal(in_windows, scatter(values, layout.pose_valid))
    assert len(layout.pose_valid) == sum(-(-count // min(window, valid.shape[1])) for count in lengths)


def test_split_batches_hold_whole_windows():
    batch = random_batch(tiny_info(), (5, 8, 2), ahead=3)
    assert batch.split(1) == [batch]
    for parts, windows in ((2, [2, 1]), (3, [1, 1, 1]), (9, [1, 1, 1])):
        split = batch.split(parts)
        assert [len(part.valid) for part in split] == windows
        assert [len(part.frames) for part in split] == [int(part.valid.sum()) for part in split]
        for name, whole in batch.tensors().items():
            assert torch.equal(torch.cat([part.tensors()[name] for part in split]), whole), name


def test_first_frames_of_windows_are_those_of_shorter_windows():
    batch = random_batch(tiny_info(), [5, 8, 3], padding=2)
    some = batch.first(torch.tensor([2, 0, 3]))
    assert some.valid.tolist() == [[True, True, False], [True] * 3]
    assert some.clip.tolist() == [0, 2]
    kept = [0, 1, 13, 14, 15]
    for name in ("frames", "joints_m", "joints_px", "joint_valid", "object", "frame"):
        assert torch.equal(getattr(some, name), getattr(batch, name)[kept]), name
    assert torch.equal(some.action, batch.action[[0, 2]])
