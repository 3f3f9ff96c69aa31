"""Windows: equal to those of the released code by digest, with properties that hold for any clips."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from htt.config import Config, override
from htt.data.loading.windows import (
    Windows,
    cut,
    draw_observed,
    evaluation_windows,
    observed_frames,
    padded,
    training_windows,
)

GOLDEN = Path(__file__).parents[3] / "golden"
CASES = json.loads((GOLDEN / "windows_h2o.json").read_text())


def _clips(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the first frame number and the number of frames of each clip of a label file."""
    lines = (GOLDEN / "h2o_labels" / f"action_{split}.txt").read_text().split("\n")[1:]
    ends = np.array([[int(word) for word in line.split()[-4:-2]] for line in lines if line.strip()])
    return ends[:, 0], ends[:, 1] - ends[:, 0] + 1


def _windows(case: dict, counts: np.ndarray) -> Windows:
    config = override(
        Config(),
        {
            "model.pose.window": case["pose_window"],
            "model.action.length": case["action_length"],
            "data.spacing": case["spacing"],
        },
    )
    return (training_windows if case["mode"] == "train" else evaluation_windows)(counts, config)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['split']}-{case['mode']}-{case['pose_window']}")
def test_windows_agree_with_released_code(case: dict) -> None:
    first, counts = _clips(case["split"])
    windows = _windows(case, counts)
    assert len(counts) == case["clips"]
    assert len(windows) == case["windows"]
    assert int(windows.frame_count.sum()) == case["valid_frames"]
    assert len(windows) * case["action_length"] == case["slots"]
    digest = hashlib.sha256()
    for window in windows:
        frames, valid = padded(window, case["action_length"])
        numbers = ",".join(str(number) for number in frames + first[window.clip])
        digest.update(f"{window.clip}:{numbers}:{''.join('1' if real else '0' for real in valid)}\n".encode())
    assert digest.hexdigest() == case["sha256"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['split']}-{case['mode']}-{case['pose_window']}")
def test_windows_contain_golden_examples(case: dict) -> None:
    first, counts = _clips(case["split"])
    windows = _windows(case, counts)
    known = {
        (window.clip, *(padded(window, case["action_length"])[0] + first[window.clip]).tolist()) for window in windows
    }
    for example in case["examples"]:
        assert (example["clip"], *example["frames"]) in known


def test_cut_starts_windows_at_given_offsets() -> None:
    windows = cut([7, 0, 2], length=2, spacing=2, starts=2)
    assert [(window.clip, window.frames.tolist()) for window in windows] == [
        (0, [0, 2]),
        (0, [1, 3]),
        (0, [4, 6]),
        (0, [5]),
        (2, [0]),
        (2, [1]),
    ]


def test_training_windows_shift_starts_only_if_configured() -> None:
    shifted = training_windows([40], Config())
    plain = training_windows([40], override(Config(), {"data.shifted_starts": False}))
    assert shifted.start.tolist() == list(range(32))
    assert plain.start.tolist() == [0, 1]


@given(
    counts=st.lists(st.integers(0, 60), max_size=6),
    length=st.integers(1, 9),
    spacing=st.integers(1, 4),
)
def test_cut_covers_every_frame_once(counts: list[int], length: int, spacing: int) -> None:
    seen = [(window.clip, frame) for window in cut(counts, length=length, spacing=spacing, starts=spacing)
            for frame in window.frames.tolist()]  # fmt: skip
    assert sorted(seen) == [(clip, frame) for clip, count in enumerate(counts) for frame in range(count)]


@given(
    counts=st.lists(st.integers(0, 60), max_size=6),
    length=st.integers(1, 9),
    spacing=st.integers(1, 4),
    starts=st.integers(1, 12),
)
def test_cut_gives_existing_frames_in_order(counts: list[int], length: int, spacing: int, starts: int) -> None:
    for window in cut(counts, length=length, spacing=spacing, starts=starts):
        frames = window.frames
        assert np.arange(counts[window.clip])[window.part].tolist() == frames.tolist()
        assert 1 <= len(frames) == window.count <= length
        assert set(np.diff(frames)) <= {spacing}
        assert frames[-1] < counts[window.clip]
        assert len(frames) == length or frames[-1] + spacing >= counts[window.clip]


@given(
    counts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    length=st.integers(1, 40),
    window=st.integers(1, 40),
    spacing=st.integers(1, 3),
)
def test_training_windows_are_all_different(counts: list[int], length: int, window: int, spacing: int) -> None:
    fields = {"model.action.length": length, "model.pose.window": window, "data.spacing": spacing}
    windows = training_windows(counts, override(Config(), fields))
    assert len({(window.clip, tuple(window.frames)) for window in windows}) == len(windows)


@pytest.mark.parametrize(
    ("count", "share", "frames"), [(10, 0.7, 7), (10, 0.71, 8), (1, 0.1, 1), (19, 0.1, 2), (30, 0.1, 3), (7, 1.0, 7)]
)
def test_observed_frames_are_rounded_up(count: int, share: float, frames: int) -> None:
    assert observed_frames(np.array([count]), share).tolist() == [frames]


@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    share=st.floats(0.01, 1),
    length=st.integers(1, 9),
    spacing=st.integers(1, 4),
    starts=st.integers(1, 12),
)
def test_observed_windows_are_those_of_clips_that_end_earlier(
    counts: list[int], share: float, length: int, spacing: int, starts: int
) -> None:
    how = {"length": length, "spacing": spacing, "starts": starts}
    frame_counts = np.array(counts)
    windows, last = cut(counts, **how), observed_frames(frame_counts, share)
    shown = draw_observed(windows, frame_counts, (share, share), np.random.default_rng(0))
    cut_off = [window.frames[:count].tolist() for window, count in zip(windows, shown, strict=True)]
    exists = windows.start < last[windows.clip]
    assert [each for each, does in zip(cut_off, exists, strict=True) if does] == [
        window.frames.tolist() for window in cut(last, **how)
    ]
    assert (shown[~exists] == 1).all(), "a window that begins later shows its first frame"


def test_drawn_shares_fill_their_range() -> None:
    windows, counts = cut([1000] * 2000, length=1000, spacing=1, starts=1), np.full(2000, 1000)
    shown = draw_observed(windows, counts, (0.2, 0.9), np.random.default_rng(0))
    assert 200 <= shown.min() < 210
    assert 890 < shown.max() <= 900
    assert shown.mean() == pytest.approx(550, rel=0.03)
