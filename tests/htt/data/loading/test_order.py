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


mixed = st.tuples(st.integers(3, 40), st.integers(3, 40), st.integers(3, 9), st.integers(0, 3), st.integers(1, 3))


@given(sizes=mixed, seed=st.integers(0, 99), epoch=st.integers(0, 9), limit=st.none() | st.integers(4, 60))
def test_order_mixes_labelled_and_other_windows(
    sizes: tuple[int, int, int, int, int], seed: int, epoch: int, limit: int | None
) -> None:
    known, unknown, batch_size, others, world = sizes
    windows = known + unknown
    labelled = np.random.default_rng(seed).permutation(windows) < known
    counts = np.random.default_rng(seed).integers(1, 9, windows)

    def steps_of(rank: int, world: int, start: int = 0) -> order.Steps:
        how = {"seed": seed, "epoch": epoch, "batch_size": batch_size * (1 + others), "limit": limit, "start": start}
        mixing = {"labelled": labelled, "others": others, "frame_counts": counts}
        return order.order(windows, **how, **mixing, rank=rank, world=world)  # type: ignore[arg-type]

    whole = steps_of(0, 1)
    assert len(whole) == order.steps_per_epoch(windows, batch_size, limit)  # as many as with all labels
    for kind, wanted in ((labelled, 1), (~labelled, others)):
        times = np.bincount(np.concatenate(whole), minlength=windows)[kind]
        size = min(windows, limit or windows, batch_size) * wanted
        assert all(kind[step].sum() == size for step in whole)
        assert times.max() - times.min() <= 2 or not wanted  # the last round may end before the steps do
    shares = [steps_of(rank, world) for rank in range(world)]
    for step, parts in zip(whole, zip(*shares, strict=True), strict=True):
        assert sorted(np.concatenate(parts).tolist()) == sorted(step.tolist())
        for part in parts:
            assert labelled[part].any()
            assert (~labelled[part]).any() == (others > 0)
            assert (np.diff(labelled[part].astype(int)) <= 0).all()  # labelled windows come first
    tail = steps_of(0, 1, start=batch_size * (1 + others))
    assert [step.tolist() for step in tail] == [step.tolist() for step in whole[1:]] or len(whole) == 1


def test_order_takes_the_same_labelled_windows_with_and_without_others() -> None:
    labelled = np.arange(40) % 4 == 0
    alone, mixed = (
        order.order(40, seed=3, epoch=2, batch_size=4 * (1 + others), labelled=labelled, others=others)
        for others in (0, 2)
    )
    assert [sorted(step[labelled[step]].tolist()) for step in mixed] == [sorted(step.tolist()) for step in alone]
