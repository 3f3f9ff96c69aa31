"""Batches: correct in every field, equal for any number of workers and processes, resumable at any step."""

import contextlib
import dataclasses
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import simplejpeg
import torch

from htt import camera
from htt.batch import Batch, gather, scatter, window_of_frame
from htt.config import Config, override
from htt.data.loading import loader as loading
from htt.data.loading.clips import Clips, open_split
from htt.data.loading.loader import Assembler, Decoder, EvaluationLoader, TrainingLoader
from htt.data.loading.order import order
from htt.data.loading.windows import evaluation_windows, training_windows
from htt.data.sources import ClipRecord
from htt.errors import ClusterError, ConfigError, DataError

COUNTS = [7, 12, 1, 9, 30, 4]
CONFIG = override(
    Config(),
    {
        "model.pose.window": 2,
        "model.action.length": 4,
        "data.spacing": 2,
        "train.batch_size": 3,
        "train.seed": 7,
        "model.forecast.frames": 3,
    },
)


@pytest.fixture(scope="module")
def clips(
    tmp_path_factory: pytest.TempPathFactory,
    make_record: Callable[..., ClipRecord],
    write_shards: Callable[..., Path],
) -> Clips:
    records = [make_record(index, count) for index, count in enumerate(COUNTS)]
    return open_split(write_shards(tmp_path_factory.mktemp("shards"), {"train": records}), "train")


def assert_same(one: Batch, other: Batch) -> None:
    assert one.tensors().keys() == other.tensors().keys() >= {"ahead_px"}
    for name, left in one.tensors().items():
        right = other.tensors()[name]
        assert left.dtype == right.dtype
        assert torch.equal(left, right), name


def pairs(batch: Batch) -> list[tuple[int, int]]:
    """Return (clip, frame) of every frame of a batch."""
    return list(zip(batch.clip[window_of_frame(batch.valid)].tolist(), batch.frame.tolist(), strict=True))


def test_assembler_fills_every_field(clips: Clips) -> None:
    windows = training_windows(clips.frame_counts, CONFIG)
    chosen = [0, len(windows) - 1, 6]
    batch = Assembler(clips, windows)(chosen)
    picked = [windows[index] for index in chosen]
    frames = [(window.clip, int(frame)) for window in picked for frame in window.frames]
    assert batch.valid.sum(1).tolist() == [len(window.frames) for window in picked]
    assert batch.valid.shape[1] == max(len(window.frames) for window in picked)
    assert batch.clip.tolist() == [window.clip for window in picked]
    assert batch.frame.tolist() == [frame for _, frame in frames]
    assert batch.action.tolist() == [window.clip % 5 - 1 for window in picked]
    assert batch.object.tolist() == [clip % 4 for clip, _ in frames]
    assert batch.frames.dtype == torch.uint8
    assert batch.frames.is_contiguous(memory_format=torch.channels_last)
    assert batch.intrinsics.dtype == torch.float32
    for row, (clip, frame) in enumerate(frames):
        assert torch.equal(batch.frames[row], clips.decode(clip, [frame])[0])
        valid = np.repeat(clips.hand_valid(clip)[frame], 21)
        assert batch.joint_valid[row].numpy().tolist() == valid.tolist()
        expected = camera.project(clips.joints(clip)[frame], clips.intrinsics[clip])
        np.testing.assert_allclose(batch.joints_px[row][valid], expected[valid], rtol=1e-6)
        np.testing.assert_array_equal(batch.joints_m[row][valid], clips.joints(clip)[frame][valid])
        assert not batch.joints_m[row][~valid].any()
        assert not batch.joints_px[row][~valid].any()


def test_assembler_concatenates_windows(clips: Clips) -> None:
    assembler = Assembler(clips, training_windows(clips.frame_counts, CONFIG))
    chosen = [3, 11, 5]
    batch, singles = assembler(chosen), [assembler([index]) for index in chosen]
    for name in ("frames", "joints_m", "joints_px", "joint_valid", "object", "frame", "action", "clip", "intrinsics"):
        assert torch.equal(getattr(batch, name), torch.cat([getattr(single, name) for single in singles])), name
    assert torch.equal(gather(scatter(batch.object, batch.valid), batch.valid), batch.object)


def test_evaluation_loader_masks_invalid_joints(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    record = make_record(0, 2)
    record.joints_m[0, 3, 2], record.joints_m[1, 30] = -0.2, np.nan
    record.hand_valid[:] = True
    clips = open_split(write_shards(tmp_path, {"train": [record]}), "train")
    batch = next(iter(EvaluationLoader(clips, override(CONFIG, {"data.spacing": 1}))))
    assert (~batch.joint_valid).nonzero().tolist() == [[0, 3], [1, 30]]
    assert batch.joints_px.isfinite().all()
    assert batch.joints_m.isfinite().all()


def test_training_loader_resumes_at_a_step(clips: Clips) -> None:
    loader = TrainingLoader(clips, CONFIG)
    whole = list(loader.epoch(2))
    assert len(whole) == loader.steps_per_epoch > 3
    for one, other in zip(loader.epoch(2, start=2 * loader.step_windows), whole[2:], strict=True):
        assert_same(one, other)
    assert list(loader.epoch(2, start=len(whole) * loader.step_windows)) == []


def test_training_loaders_share_the_global_batch(clips: Clips) -> None:
    whole = TrainingLoader(clips, CONFIG)
    shares = [TrainingLoader(clips, CONFIG, rank, 2) for rank in range(2)]
    assert {share.steps_per_epoch for share in shares} == {whole.steps_per_epoch}
    for batch, *parts in zip(whole.epoch(0), *(share.epoch(0) for share in shares), strict=True):
        assert sorted(pair for part in parts for pair in pairs(part)) == sorted(pairs(batch))


def test_training_loader_limits_windows_per_epoch(clips: Clips) -> None:
    loader = TrainingLoader(clips, override(CONFIG, {"train.windows_per_epoch": 7}))
    assert loader.steps_per_epoch == 2
    assert len(list(loader.epoch(0))) == 2


def shown(clips: Clips, epoch: int = 0, **fields: object) -> list[Batch]:
    """Return the batches of an epoch that shows beginnings of clips."""
    return list(TrainingLoader(clips, override(CONFIG, {"data.observed": [0.3, 0.8], **fields})).epoch(epoch))


def test_training_loader_cuts_each_window_anew_in_each_epoch(clips: Clips) -> None:
    first, second = (
        {(int(clip), int(start)): frames for batch in shown(clips, epoch) for clip, start, frames in windows_of(batch)}
        for epoch in (0, 1)
    )
    whole = {
        (window.clip, int(window.frames[0])): window.frames.tolist()
        for window in training_windows(clips.frame_counts, CONFIG)
    }
    assert all(frames == whole[key][: len(frames)] for key, frames in first.items())
    assert any(frames != whole[key] for key, frames in first.items())
    assert any(frames != second[key] for key, frames in first.items() if key in second)
    for clip, start in first:
        last = max(np.ceil(0.8 * COUNTS[clip]), start + 1)
        assert first[clip, start][-1] < last


def windows_of(batch: Batch) -> list[tuple[int, int, list[int]]]:
    """Return the clip, the first frame and the frames of each window of a batch."""
    parts = torch.split(batch.frame, batch.valid.sum(1).tolist())
    return [(int(clip), int(frames[0]), frames.tolist()) for clip, frames in zip(batch.clip, parts, strict=True)]


def test_cut_windows_hold_the_first_frames_of_whole_ones(clips: Clips) -> None:
    for cut, whole in zip(shown(clips), TrainingLoader(clips, CONFIG).epoch(0), strict=True):
        assert_same(cut, whole.first(cut.valid.sum(1)))


def test_cut_windows_do_not_depend_on_workers_processes_or_interruptions(clips: Clips) -> None:
    config = override(CONFIG, {"data.observed": [0.3, 0.8]})
    whole = shown(clips)
    shares = [TrainingLoader(clips, config, rank, 2).epoch(0) for rank in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert sorted(pair for part in parts for pair in pairs(part)) == sorted(pairs(batch))
    for one, other in zip(shown(clips, **{"runtime.loader_workers": 1}), whole, strict=True):
        assert_same(one, other)
    loader = TrainingLoader(clips, config)
    assert_same(next(loader.epoch(0, start=loader.step_windows)), whole[1])


def test_copies_and_cuts_of_a_window_are_independent(clips: Clips) -> None:
    for both, cut in zip(shown(clips, **{"data.augment.views": 3}), shown(clips), strict=True):
        assert pairs(both) == pairs(cut)
    copies = TrainingLoader(clips, override(CONFIG, {"data.augment.views": 3}))
    for both, copy in zip(shown(clips, **{"data.augment.views": 3}), copies.epoch(0), strict=True):
        assert torch.equal(both.view, copy.view)
        assert both.view.all()


def test_training_loader_refuses_more_workers_than_windows(clips: Clips) -> None:
    with pytest.raises(ConfigError, match="at most 3 workers"):
        TrainingLoader(clips, CONFIG, 0, 4)


@pytest.mark.parametrize("world", [1, 3, 40])
def test_evaluation_loaders_visit_every_frame_once(clips: Clips, world: int) -> None:
    loaders = [EvaluationLoader(clips, CONFIG, rank, world) for rank in range(world)]
    seen = []
    for loader in loaders:
        batches = list(loader)
        assert len(batches) == len(loader)
        for batch in batches:
            seen += pairs(batch)
    assert sorted(seen) == [(clip, frame) for clip, count in enumerate(COUNTS) for frame in range(count)]


def test_evaluation_loader_bounds_batch_size(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "EVALUATION_PIXELS", 10 * 32 * 24)
    for batch in EvaluationLoader(clips, CONFIG):
        assert len(batch.frames) <= 10


def test_training_loader_repeats_epoch_after_early_exit(clips: Clips) -> None:
    loader = TrainingLoader(clips, CONFIG)
    first = next(loader.epoch(0))
    assert_same(first, next(loader.epoch(0)))


def test_decoder_thread_gives_same_batches(clips: Clips) -> None:
    loader = TrainingLoader(clips, CONFIG)
    steps = order(len(loader.windows), seed=0, epoch=0, batch_size=2)
    for one, other in zip(
        Decoder(loader.assembler, ahead=True).batches(steps),
        Decoder(loader.assembler, ahead=False).batches(steps),
        strict=True,
    ):
        assert_same(one, other)
    assert list(Decoder(loader.assembler, ahead=True).batches([])) == []


@pytest.mark.parametrize("ahead", [True, False])
def test_decoder_pins_memory_and_gives_same_batches(clips: Clips, monkeypatch: pytest.MonkeyPatch, ahead: bool) -> None:
    assembler, steps = TrainingLoader(clips, CONFIG).assembler, [np.array([0, 3]), np.array([5])]
    plain = list(Decoder(assembler, ahead=False).batches(steps))
    decode, threads, pinned = simplejpeg.decode_jpeg, set(), []

    def noted(*args: object, **options: object) -> np.ndarray:
        threads.add(threading.current_thread().name.partition("_")[0])
        return decode(*args, **options)

    monkeypatch.setattr(simplejpeg, "decode_jpeg", noted)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    for batch, same in zip(Decoder(assembler, ahead=ahead).batches(steps), plain, strict=True):
        assert_same(batch, same)
        assert any(tensor is batch.frames for tensor in pinned)
    assert threads == {"decode"}


def test_broken_frame_is_named_also_by_a_thread(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    record = make_record(0, 3)
    record.jpegs[1] = record.jpegs[1][:-99]
    broken = open_split(write_shards(tmp_path, {"train": [record]}), "train")
    with pytest.raises(DataError, match=r"^Invalid JPEG: frame 13 of clip clip-0"):
        list(EvaluationLoader(broken, CONFIG))


def test_loader_processes_give_same_batches_without_random_draws(clips: Clips) -> None:
    plain = TrainingLoader(clips, CONFIG)
    loader = TrainingLoader(clips, override(CONFIG, {"runtime.loader_workers": 1}))
    state = torch.get_rng_state()
    next(loader.epoch(1))
    for epoch, start in ((0, 0), (1, 2)):
        for one, other in zip(loader.epoch(epoch, start), plain.epoch(epoch, start), strict=True):
            assert_same(one, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("processes", [0, 1])
def test_evaluation_loader_names_broken_frame(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path], processes: int
) -> None:
    record = make_record(0, 3)
    record.jpegs[1] = record.jpegs[1][:-99]
    clips = open_split(write_shards(tmp_path, {"train": [record]}), "train")
    config = override(CONFIG, {"runtime.loader_workers": processes})
    with pytest.raises(DataError, match=r"^Invalid JPEG: frame 13 of clip clip-0"):
        list(EvaluationLoader(clips, config))


def test_training_loader_refuses_processes_without_shared_memory(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**10))
    few = TrainingLoader(clips, override(CONFIG, {"runtime.loader_workers": 2}))
    with pytest.raises(ClusterError, match=r"2 processes .* has 0 MB free\. .*--shm-size=8g.*loader_workers=0"):
        list(few.epoch(0))
    list(TrainingLoader(clips, CONFIG).epoch(0))  # uses no loader process


SMALL = """
import sys
from htt.config import override
from htt.data.loading import loader
from htt.errors import ClusterError
from htt.testing import tiny_config
from htt.training.tasks import open_splits

if __name__ == "__main__":
    loader.Decoder._check_room = lambda *_: None  # as if other programs took the space afterwards
    config = override(tiny_config(), {"runtime.loader_workers": 1, "train.batch_size": 8})
    try:
        list(loader.TrainingLoader(open_splits(config).train, config).epoch(0))
    except ClusterError as error:
        print(error)
"""


@pytest.mark.skipif(not Path("/dev/shm").is_dir() or os.geteuid() != 0, reason="only root makes shared memory small")
def test_loader_processes_report_full_shared_memory(tmp_path: Path, tiny_splits: object) -> None:
    """Check with little shared memory, as in a container, where the loader once waited forever."""
    (tmp_path / "small.py").write_text(SMALL)
    script = f"mount -t tmpfs -o size=96k tmpfs /dev/shm && exec {shlex.quote(sys.executable)} {tmp_path}/small.py"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[4])}
    command = ["unshare", "--mount", "bash", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=env, check=False)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("this machine mounts nothing")
    assert "Cannot put a batch into shared memory (/dev/shm): unable to allocate" in done.stdout, done.stderr
    assert "--shm-size=8g" in done.stdout


def test_batches_hold_the_hand_types_of_their_frames(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path], clips: Clips
) -> None:
    records = [make_record(index, count) for index, count in enumerate([5, 8])]
    records = [
        dataclasses.replace(each, hand_types=np.arange(2 * len(each.jpegs)).reshape(-1, 2) % 4 - 1) for each in records
    ]
    typed = open_split(write_shards(tmp_path, {"train": records}), "train")
    assembler = Assembler(typed, training_windows(typed.frame_counts, CONFIG))
    batch = assembler([2, 0, 5])
    for row, (clip, frame) in enumerate(pairs(batch)):
        assert batch.hand_type[row].tolist() == records[clip].hand_types[frame].tolist()
    first, *_ = batch.split(3)
    assert torch.equal(first.hand_type, batch.hand_type[: int(batch.valid[0].sum())])
    assert batch.to("cpu").truth.hand_type is not None
    assert Assembler(clips, training_windows(clips.frame_counts, CONFIG))([0]).hand_type is None


def test_assembler_adds_the_joints_of_later_frames_of_the_clip(
    tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    """A clip of frames 10, 11, 12, 14, without 13: no frame has it ahead, and none is of the next clip."""
    records = [make_record(0, 4), make_record(1, 4)]
    records[0].frame_numbers[:] = [10, 11, 12, 14]
    records[0].hand_valid[:] = True
    records[0].hand_valid[2, 0] = False
    clips = open_split(write_shards(tmp_path, {"train": records}), "train")
    config = override(CONFIG, {"data.spacing": 1, "model.forecast.frames": 3})
    batch = Assembler(clips, evaluation_windows(clips.frame_counts, config), ahead=3)([0])
    targets = clips.targets(0)
    ahead = {0: [0, 1, 2, None], 1: [1, 2, None, 3], 2: [2, None, 3, None], 3: [3, None, None, None]}
    assert batch.ahead_valid is not None
    assert batch.ahead_valid.shape == (4, 4, 42)
    for frame, expected in ahead.items():
        for step, later in enumerate(expected):
            valid = np.zeros(42, bool) if later is None else targets.joint_valid[later]
            assert batch.ahead_valid[frame, step].numpy().tolist() == valid.tolist(), (frame, step)
            if later is not None:
                assert np.array_equal(batch.ahead_m[frame, step], targets.joints_m[later])
                assert np.array_equal(batch.ahead_px[frame, step], targets.joints_px[later])
    assert not batch.ahead_valid[0, 2, :21].any(), "the left hand is not annotated there"


def test_batch_without_forecast_has_no_later_frames(clips: Clips) -> None:
    plain = override(CONFIG, {"model.forecast.frames": 0})
    assert next(iter(EvaluationLoader(clips, plain))).ahead_m is None
    assert next(TrainingLoader(clips, plain).epoch(0)).ahead_m is None
    assert next(iter(EvaluationLoader(clips, CONFIG))).ahead_valid is not None


def test_room_for_processes_counts_later_frames(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 4 frames of 2,304 bytes, in steps of 3: 2 x 27,648 bytes fit, with 900 later frames they do not."""
    monkeypatch.setattr(loading.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20))
    processes = SimpleNamespace(num_workers=1)
    for ahead, raised in ((0, False), (300, True)):
        decoder = Decoder(Assembler(clips, training_windows(clips.frame_counts, CONFIG), ahead=ahead))
        decoder._loader = processes  # type: ignore[assignment]
        with pytest.raises(ClusterError) if raised else contextlib.nullcontext():
            decoder._check_room([np.array([0, 1, 2])])
