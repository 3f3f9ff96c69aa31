"""Order of windows: complete, disjoint, and the same from any step on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htt.data.loading import order
from htt.errors import ConfigError

sizes = st.tuples(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4)).filter(
    lambda three: min(three[:2]) >= three[2]
)


def test_order_drops_incomplete_last_batch() -> None:
    steps = order.order(7, seed=0, epoch=0, batch_size=3)
    assert [len(step) for step in steps] == [3, 3]
    assert len(set(np.concatenate(steps).tolist())) == 6
    assert order.steps_per_epoch(7, 3) == 2


@given(sizes=sizes, seed=st.integers(0, 99), epoch=st.integers(0, 99), limit=st.none() | st.integers(4, 60))
def test_order_splits_global_steps_among_workers(
    sizes: tuple[int, int, int], seed: int, epoch: int, limit: int | None
) -> None:
    windows, batch_size, world = sizes

    def steps_of(rank: int, world: int) -> order.Steps:
        return order.order(windows, seed=seed, epoch=epoch, batch_size=batch_size, rank=rank, world=world, limit=limit)

    whole = steps_of(0, 1)
    shares = [steps_of(rank, world) for rank in range(world)]
    assert len(whole) == order.steps_per_epoch(windows, batch_size, limit)
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(np.concatenate(parts).tolist()) == sorted(step.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert min(map(len, parts)) >= 1
    drawn = np.concatenate(whole).tolist()
    assert len(drawn) == len(set(drawn)) <= (limit or windows)
    assert len(drawn) > min(windows, limit or windows) - batch_size


@given(sizes=sizes, start=st.integers(0, 70))
def test_order_with_start_gives_the_tail(sizes: tuple[int, int, int], start: int) -> None:
    windows, batch_size, world = sizes
    whole = order.order(windows, seed=5, epoch=3, batch_size=batch_size, rank=world - 1, world=world)
    entered = start * batch_size
    tail = order.order(windows, seed=5, epoch=3, batch_size=batch_size, rank=world - 1, world=world, start=entered)
    assert [step.tolist() for step in tail] == [step.tolist() for step in whole[start:]]


def test_order_depends_on_seed_and_epoch_only() -> None:
    def drawn(seed: int, epoch: int) -> list[int]:
        return np.concatenate(order.order(50, seed=seed, epoch=epoch, batch_size=5, limit=20)).tolist()

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1) != drawn(1, 0)
    assert set(drawn(0, 0)) != set(drawn(0, 1))
    assert len(drawn(0, 0)) == 20


def test_order_of_fewer_windows_than_a_batch_is_one_step() -> None:
    assert [sorted(step.tolist()) for step in order.order(3, seed=0, epoch=0, batch_size=8)] == [[0, 1, 2]]


@pytest.mark.parametrize(("windows", "batch_size", "limit"), [(9, 2, None), (2, 9, None), (9, 9, 2)])
def test_order_refuses_more_workers_than_windows(windows: int, batch_size: int, limit: int | None) -> None:
    with pytest.raises(ConfigError, match=r"there are 3 workers, but only 2 windows .*at most 2 workers"):
        order.order(windows, seed=0, epoch=0, batch_size=batch_size, world=3, limit=limit)


@given(windows=st.integers(0, 50), world=st.integers(1, 8))
def test_share_is_contiguous_and_complete(windows: int, world: int) -> None:
    shares = [order.share(windows, rank, world) for rank in range(world)]
    assert np.concatenate(shares).tolist() == list(range(windows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(sizes=st.lists(st.integers(1, 20), max_size=20), most=st.integers(1, 5), budget=st.integers(1, 40))
def test_groups_respect_count_and_budget(sizes: list[int], most: int, budget: int) -> None:
    groups = order.groups(np.array(sizes, int), most, budget)
    assert [window for group in groups for window in group.tolist()] == list(range(len(sizes)))
    for group in groups:
        assert 1 <= len(group) <= most
        assert len(group) == 1 or sum(sizes[window] for window in group) <= budget


@given(sizes=sizes, seed=st.integers(0, 99))
def test_dealt_windows_are_all_dealt_once_and_evenly(sizes: tuple[int, int, int], seed: int) -> None:
    windows, batch_size, world = sizes
    counts = np.random.default_rng(seed).integers(1, 129, windows)
    whole = order.order(windows, seed=seed, epoch=0, batch_size=batch_size)
    shares = [
        order.order(windows, seed=seed, epoch=0, batch_size=batch_size, rank=rank, world=world, frame_counts=counts)
        for rank in range(world)
    ]
    for step, *parts in zip(whole, *shares, strict=True):
        assert sorted(np.concatenate(parts).tolist()) == sorted(step.tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        frames = [int(counts[part].sum()) for part in parts]
        assert max(frames) - min(frames) <= int(counts[step].max())


def test_dealt_windows_are_balanced_by_frame_count() -> None:
    step, counts = np.array([3, 0, 2, 1]), np.array([10, 100, 90, 20])
    assert [order.dealt(step, rank, 2, counts).tolist() for rank in range(2)] == [[1, 0], [2, 3]]
    assert [order.dealt(step, rank, 2).tolist() for rank in range(2)] == [[3, 2], [0, 1]]
    alone = order.order(9, seed=1, epoch=0, batch_size=3, frame_counts=np.arange(9))
    assert [each.tolist() for each in alone] == [
        each.tolist() for each in order.order(9, seed=1, epoch=0, batch_size=3)
    ]
