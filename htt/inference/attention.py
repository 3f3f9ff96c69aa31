"""Attention of a trained model on the clips of a split, and a test whether it is faithful.

Attention weights are not an explanation by themselves: a model can attend to frames that it does not need. The test
removes the k frames of each window that the action token attends to most (last layer, mean of the heads), and compares
the predictions with those after the removal of k other frames of the same window:

``random``
    k frames drawn at random. Usually they are apart, and the neighbours of a removed frame remain.
``shifted``
    The same k frames moved by a random number of frames, around the end of the window. They are as close together as
    the attended ones, so a difference is due to *when* they are.
``usual``
    The k frames at the positions that are attended to most in the other clips of the split, aligned to [0, 1]. A
    difference is due to what this clip shows: a token that looks at the same position in every clip has none. Left out
    if there is only one clip.

A removed frame is not valid for block A: neither the action token nor another frame can attend to it, and the other
frames keep their positions. Block P, the hands and the objects stay as they were, computed from all frames. The test
asks whether the action token attends to the frames that block A needs; without a frame in block P, the tokens of its
neighbours would change as well, and a fall would say nothing of block A. For the same reason some of a removed frame
remains in its neighbours' tokens, in both conditions alike.

Source: the removal of what is attended to, compared with a control and averaged over k, is "comprehensiveness" of
DeYoung et al. 2020 ("ERASER", section 4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from htt.batch import Batch
from htt.config import Config
from htt.data.loading.clips import Clips
from htt.data.loading.loader import EvaluationLoader
from htt.data.loading.windows import evaluation_windows
from htt.errors import ConfigError, DataError
from htt.evaluation import intervals
from htt.evaluation.intervals import Interval
from htt.info import UNKNOWN
from htt.model.htt import HTT
from htt.training.loop import Precision

ATTENDED, RANDOM, SHIFTED, USUAL = "attended", "random", "shifted", "usual"
CONTROLS = (RANDOM, SHIFTED, USUAL)
USUAL_BINS = 20
"""Equal parts of a clip in which the usual attention is averaged."""
MEASURES = ("accuracy", "probability")
"""Share of clips whose action is right (soft vote), and probability of the true action."""
COUNTS = (1, 2, 4, 8)
"""Default numbers of frames to remove."""
SEED = 0


@dataclass(frozen=True)
class Distances:
    """Attention of block P by distance in time, summed over all pairs of frames of all windows."""

    weight: np.ndarray
    """[layers heads 2k - 1] attention of a frame to the frame ``distance`` later."""
    equal: np.ndarray
    """[2k - 1] the same if each frame attended to all frames of its window alike."""

    @property
    def distance(self) -> np.ndarray:
        """[2k - 1] distances in frames of a window; negative ones are earlier frames."""
        reach = len(self.equal) // 2
        return np.arange(-reach, reach + 1)

    @property
    def relative(self) -> np.ndarray:
        """[layers heads 2k - 1] attention relative to equal attention; NaN at distances that no window has."""
        relative = np.full(self.weight.shape, np.nan)
        np.divide(self.weight, self.equal, out=relative, where=self.equal > 0)
        return relative

    @property
    def mean(self) -> np.ndarray:
        """[layers heads] mean distance, forwards or backwards, to an attended frame."""
        mean: np.ndarray = self.weight @ np.abs(self.distance) / self.weight.sum(axis=-1)
        return mean

    @property
    def mean_equal(self) -> float:
        """Mean distance if each frame attended to all frames of its window alike."""
        return float(self.equal @ np.abs(self.distance) / self.equal.sum())


@dataclass(frozen=True)
class Fall:
    """Comparison of the removal of the most attended frames with a control, over clips."""

    measure: str
    """One of ``MEASURES``."""
    frames: int | None
    """Number of removed frames, or None for the mean over all numbers."""
    control: str
    """One of ``CONTROLS``."""
    attended: float
    """Value after the removal of the most attended frames."""
    value: float
    """Value after the removal of the control's frames."""
    interval: Interval | None
    """95 % interval of the difference over groups of clips, or None if all clips are of one group."""

    @property
    def difference(self) -> float:
        """Additional fall of the measure without the most attended frames, compared with the control's."""
        return self.value - self.attended


@dataclass(frozen=True)
class Removal:
    """Predictions of each clip after the removal of frames: mean probabilities of its windows."""

    counts: tuple[int, ...]
    """Numbers of removed frames of a window."""
    label: np.ndarray
    """[c] true action."""
    groups: Sequence[str]
    """Group of each clip."""
    whole: np.ndarray
    """[c a] probabilities with no frame removed."""
    without: Mapping[str, np.ndarray]
    """{attended or control: [counts draws c a]}; the attended and the usual frames are one draw."""
    share: np.ndarray
    """[counts] removed share of all frames."""

    @property
    def controls(self) -> list[str]:
        """Controls with predictions."""
        return [control for control in CONTROLS if control in self.without]

    def values(self, measure: str, probabilities: np.ndarray) -> np.ndarray:
        """Return the [... c] measure of probabilities [... c a]."""
        if measure == "accuracy":
            right: np.ndarray = (probabilities.argmax(axis=-1) == self.label).astype(float)
            return right
        probability: np.ndarray = probabilities[..., np.arange(len(self.label)), self.label]
        return probability

    def after(self, measure: str, which: str) -> np.ndarray:
        """Return the [counts c] measure after a removal, averaged over draws."""
        mean: np.ndarray = self.values(measure, self.without[which]).mean(axis=1)
        return mean

    def differences(self, measure: str, control: str) -> np.ndarray:
        """Return [counts c]: the measure after the removal of a control's frames, less that of the attended ones."""
        differences: np.ndarray = self.after(measure, control) - self.after(measure, ATTENDED)
        return differences

    @cached_property
    def falls(self) -> list[Fall]:
        """Every comparison: for each measure and control, the mean over numbers of frames, then each number."""
        found = []
        for measure in MEASURES:
            for control in self.controls:
                attended, value = self.after(measure, ATTENDED), self.after(measure, control)
                for frames in (None, *range(len(self.counts))):
                    first, second = (
                        each.mean(axis=0) if frames is None else each[frames] for each in (attended, value)
                    )
                    number = None if frames is None else self.counts[frames]
                    interval = intervals.mean(second - first, self.groups)
                    found.append(Fall(measure, number, control, float(first.mean()), float(second.mean()), interval))
        return found


@dataclass(frozen=True)
class Attention:
    """Attention of a model on the clips of a split."""

    clips: Clips
    token: Sequence[np.ndarray]
    """[layers heads t] of each clip: attention of the action token to its frames, relative to equal attention to all
    frames of a window; empty if block A has no attention."""
    own: np.ndarray
    """[c layers heads] share of its attention that the token gives to itself."""
    distances: Distances | None
    """Attention of block P, or None if it has none."""
    removal: Removal | None
    """Test of the attention of block A, or None if it has none."""

    def profiles(self, bins: int) -> np.ndarray:
        """Return the [c layers heads bins] attention of the token in equal parts of each clip, with a mean of 1."""
        return np.stack([profile(each, bins) for each in self.token])

    def top_share(self, share: float) -> np.ndarray:
        """Return the [layers heads] share of the attention to frames that goes to a ``share`` of most attended ones."""
        parts = [_integral(-np.sort(-each, axis=-1), np.array([share])) for each in self.token]
        mean: np.ndarray = np.mean(parts, axis=0)[..., 0]
        return mean


def profile(values: np.ndarray, bins: int) -> np.ndarray:
    """Return the [... bins] means over equal parts of a clip of [... t] a value per frame; each frame lasts 1/t."""
    means: np.ndarray = np.diff(_integral(values, np.linspace(0, 1, bins + 1)), axis=-1) * bins
    return means


def _integral(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return the [... e] integral from 0 to each end of values [... t] that are constant over 1/t each."""
    count = values.shape[-1]
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), values.cumsum(axis=-1)], axis=-1) / count
    whole = np.minimum(np.floor(ends * count), count - 1).astype(int)
    integral: np.ndarray = sums[..., whole] + (ends * count - whole) * np.diff(sums, axis=-1)[..., whole]
    return integral


def removals(counts: Sequence[int], draws: int, clips: Clips, config: Config) -> tuple[int, ...]:
    """Return the numbers of frames to remove: ``counts``, or those of ``COUNTS`` that windows are long enough for.

    Raises:
        ConfigError: a number is below 1 or is given twice, no window is long enough, or ``draws`` is below 1.
    """
    longest = int(evaluation_windows(clips.frame_counts, config).frame_count.max())
    if draws < 1:
        raise ConfigError(f"--draws must be 1 or more; got {draws}.")
    if longest == 1:
        raise ConfigError("Cannot remove a frame: every window of these clips has 1 frame. Use longer windows.")
    counts = tuple(counts) or tuple(count for count in COUNTS if count < longest)
    given = ", ".join(map(str, counts))
    if min(counts) < 1 or len(set(counts)) < len(counts):
        raise ConfigError(f"--remove must list numbers of frames from 1, each once; got {given}.")
    if max(counts) >= longest:
        raise ConfigError(
            f"--remove must leave a frame: got {given}, and the longest window of these clips has {longest} frames. "
            f"Choose numbers up to {longest - 1}."
        )
    return counts


def labelled(clips: Clips) -> Clips:
    """Return the clips with a known action.

    Raises:
        DataError: there are none.
    """
    known = np.flatnonzero(clips.action != UNKNOWN).tolist()
    if not known:
        raise DataError(
            f"The actions of split '{clips.split}' are unknown, so its attention cannot be tested. Use another split."
        )
    return clips.only(known)


@torch.inference_mode()
def measure(
    model: HTT,
    clips: Clips,
    config: Config,
    *,
    counts: Sequence[int],
    draws: int,
    device: torch.device | None = None,
    done: Callable[[int], object] = lambda _: None,
) -> Attention:
    """Return the attention of a model on clips with known actions, and its test.

    Args:
        model: trained model.
        clips: clips with known actions.
        config: configuration of the evaluation.
        counts: numbers of frames to remove from each window; at least one frame of a window stays.
        draws: number of draws of each control.
        device: device of the computation, or None for the CPU.
        done: callback that gets a number of finished windows; each is counted twice, once after its removals.

    Raises:
        ConfigError: the model has no attention.
    """
    device = device or torch.device("cpu")
    precision = Precision(config.train.precision, device)
    model = model.to(device).eval()
    seen = _Seen(clips, model.config.pose.window)
    for batch in EvaluationLoader(clips, config):
        moved = batch.to(device)
        with precision.autocast(), _inputs(model.action_block) as inputs:
            prediction = model(moved.frames, moved.valid, moved.intrinsics, attention=True, truth=moved.truth)
        attention = prediction.attention or {}
        seen.add_pose(attention.get("pose", []), moved.valid)
        seen.add_action(batch, attention.get("action", []), _probabilities(prediction.action_logits), inputs[0].cpu())
        done(len(batch.valid))
    if not seen.token and seen.distances is None:
        raise ConfigError(
            f"This model has no attention: block P is '{model.config.pose.block}' and block A "
            f"'{model.config.action.block}'. Use a model with transformer blocks."
        )

    def predict(windows: _Windows, valid: np.ndarray) -> np.ndarray:
        with precision.autocast():
            cues = windows.cues.to(device)
            return _probabilities(model.action_block(cues, torch.from_numpy(valid).to(device), model.action_head))

    removal = _remove(seen, counts, draws, predict, done) if seen.token else None
    return Attention(clips, seen.of_clips(seen.token), np.array(seen.of_clips(seen.own)), seen.distances, removal)


@dataclass(frozen=True)
class _Windows:
    """Windows of a batch as block A sees them."""

    clip: np.ndarray
    """[b] index of each window's clip."""
    valid: np.ndarray
    """[b t]"""
    frames: Sequence[np.ndarray]
    """[n] indices of each window's frames in its clip."""
    scores: Sequence[np.ndarray]
    """[n] attention of the last layer to these frames, mean of the heads."""
    cues: Tensor
    """[b t d] input of block A."""


class _Seen:
    """Attention and predictions of the windows seen so far."""

    def __init__(self, clips: Clips, reach: int) -> None:
        self.clips, self.reach = clips, reach
        self.whole, self.count = np.zeros((len(clips), len(clips.info.actions))), np.zeros(len(clips), int)
        self.batches: list[_Windows] = []
        self.token: dict[int, np.ndarray] = {}
        self.own: dict[int, np.ndarray] = {}
        self.distances: Distances | None = None

    def of_clips(self, values: Mapping[int, np.ndarray]) -> list[np.ndarray]:
        """Return the values in the order of the clips."""
        return [values[clip] for clip in sorted(values)]

    def add_pose(self, attention: Sequence[Tensor], valid: Tensor) -> None:
        """Add block P's weights, one [b*w heads k k] per layer."""
        if not attention:
            return
        k = attention[0].shape[-1]
        windows = rearrange(F.pad(valid, (0, -valid.shape[1] % k)), "b (w k) -> (b w) k", k=k)
        weights = torch.stack([each.double() for each in attention]) * windows[:, None, :, None]
        equal = (windows[:, :, None] & windows[:, None]) / windows.sum(dim=1).clamp(min=1).double()[:, None, None]
        if self.distances is None:
            (layers, _, heads), size = weights.shape[:3], 2 * self.reach - 1
            self.distances = Distances(np.zeros((layers, heads, size)), np.zeros(size))
        middle = len(self.distances.equal) // 2
        for distance in range(1 - k, k):
            of_pairs = weights.diagonal(distance, dim1=-2, dim2=-1).sum(dim=(1, -1))
            self.distances.weight[..., middle + distance] += of_pairs.cpu().numpy()
            self.distances.equal[middle + distance] += equal.diagonal(distance, dim1=-2, dim2=-1).sum().item()

    def add_action(self, batch: Batch, attention: Sequence[Tensor], probabilities: np.ndarray, cues: Tensor) -> None:
        """Add block A's weights, one [b heads 1+t 1+t] per layer, its predictions [b a] and its input [b t d]."""
        clip, valid = batch.clip.numpy(), batch.valid.numpy()
        np.add.at(self.whole, clip, probabilities)
        np.add.at(self.count, clip, 1)
        if not attention:
            return
        rows = torch.stack([each[:, :, 0].double() for each in attention], dim=1).cpu().numpy()  # [b layers heads 1+t]
        frames = np.split(batch.frame.numpy(), valid.sum(axis=1).cumsum()[:-1])
        scores = []
        for place, index in enumerate(clip.tolist()):
            to_frames = rows[place, :, :, 1:][..., valid[place]]
            self._add_token(index, frames[place], to_frames, rows[place, :, :, 0])
            scores.append(to_frames[-1].mean(axis=0))
        self.batches.append(_Windows(clip, valid, frames, scores, cues))

    def _add_token(self, clip: int, frames: np.ndarray, weights: np.ndarray, own: np.ndarray) -> None:
        """Add the token's weights [layers heads n] to the frames of a window of a clip, and to itself."""
        count = self.clips.frame_count(clip)
        if clip not in self.token:
            self.token[clip], self.own[clip] = np.zeros((*own.shape, count)), np.zeros(own.shape)
        total = weights.sum(axis=-1, keepdims=True)
        self.token[clip][..., frames] = weights * len(frames) / np.maximum(total, np.finfo(float).tiny)
        self.own[clip] += own * len(frames) / count

    def usual(self, clip: int, frames: np.ndarray) -> np.ndarray | None:
        """Return [n] the mean attention of the other clips at the positions of a clip's frames; None without others."""
        if len(self.token) < 2:
            return None
        others = (self._profiles.sum(axis=0) - self._profiles[clip]) / (len(self.token) - 1)
        position = (frames + 0.5) / self.clips.frame_count(clip)
        usual: np.ndarray = np.interp(position, (np.arange(USUAL_BINS) + 0.5) / USUAL_BINS, others)
        return usual

    @cached_property
    def _profiles(self) -> np.ndarray:
        """[c bins] attention of the last layer, mean of the heads."""
        return np.stack([profile(each[-1].mean(axis=0), USUAL_BINS) for each in self.of_clips(self.token)])


def _remove(
    seen: _Seen,
    counts: Sequence[int],
    draws: int,
    predict: Callable[[_Windows, np.ndarray], np.ndarray],
    done: Callable[[int], object],
) -> Removal:
    """Return the predictions after removals.

    Args:
        seen: attention of all windows.
        counts: numbers of frames to remove.
        draws: number of draws.
        predict: function from windows and their valid frames [b t] to predictions [b a].
        done: callback that gets the number of windows of each finished batch.
    """
    without: dict[str, np.ndarray] = {}
    removed = np.zeros(len(counts))
    for windows in seen.batches:
        for number, count in enumerate(counts):
            chosen = [
                chosen_frames(
                    scores,
                    seen.usual(clip, frames),
                    count,
                    draws,
                    np.random.default_rng([SEED, clip, frames[0], count]),
                )
                for scores, clip, frames in zip(windows.scores, windows.clip.tolist(), windows.frames, strict=True)
            ]
            removed[number] += sum(int(each[ATTENDED].sum()) for each in chosen)
            for which, masks in chosen[0].items():
                sums = without.setdefault(which, np.zeros((len(counts), len(masks), *seen.whole.shape)))
                for draw in range(len(masks)):
                    valid = windows.valid.copy()
                    valid[windows.valid] = ~np.concatenate([each[which][draw] for each in chosen])
                    np.add.at(sums[number, draw], windows.clip, predict(windows, valid))
        done(len(windows.valid))
    each = seen.count[:, None]
    return Removal(
        tuple(counts),
        seen.clips.action,
        seen.clips.groups,
        seen.whole / each,
        {which: sums / each for which, sums in without.items()},
        removed / seen.clips.frame_counts.sum(),
    )


def chosen_frames(
    scores: np.ndarray, usual: np.ndarray | None, count: int, draws: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return the frames to remove from a window, {which: [draws n]}; the attended and the usual ones are one draw.

    Args:
        scores: [n] attention to each frame.
        usual: [n] attention of other clips at the positions of these frames, or None if there are none.
        count: number of frames; at most n - 1 are removed.
        draws: number of draws of each control.
        random: generator of the draws.
    """
    frames = len(scores)
    count = min(count, frames - 1)
    attended = _largest(scores, count)
    drawn = np.zeros((draws, frames), bool)
    shifted = np.zeros((draws, frames), bool)
    for draw in range(draws):
        drawn[draw, random.permutation(frames)[:count]] = True
        shifted[draw] = np.roll(attended, random.integers(1, frames) if frames > 1 else 0)
    chosen = {ATTENDED: attended[None], RANDOM: drawn, SHIFTED: shifted}
    return chosen if usual is None else {**chosen, USUAL: _largest(usual, count)[None]}


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Return [n], True for the ``count`` largest values; of equal ones the first."""
    largest = np.zeros(len(values), bool)
    largest[np.argsort(-values, kind="stable")[:count]] = True
    return largest


def _probabilities(logits: Tensor) -> np.ndarray:
    found: np.ndarray = logits.double().softmax(dim=-1).cpu().numpy()
    return found


@contextlib.contextmanager
def _inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Yield a list that gets the first input of every call of a module."""
    inputs: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        yield inputs
    finally:
        handle.remove()
