"""Evaluation of predictions as mergeable parts: over batches, over workers, in any order.

An ``Evaluation`` is updated batch by batch and keeps one small part per window: summed errors of the joints, hits
within each distance, probabilities. Merging evaluations joins their lists. Values are added up only for a result, in
the order of clips and frames, so a result is the same to the last bit for any distribution of the windows over workers.

The metrics are computed from the sums in ``htt.evaluation.sums``; names, units and directions are in
``htt.evaluation.metric_table``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from htt.batch import Batch, Prediction, window_of_frame
from htt.config import LossConfig
from htt.evaluation.metric_table import EARLY, METRICS
from htt.evaluation.sums import SPACES, VOTES, Ahead, ClipSums, Curve, Joints, early_area, thresholds_mm
from htt.hand import JOINTS_PER_HAND, WRIST
from htt.info import UNKNOWN, DataInfo
from htt.losses import AHEAD, TERMS, hand_types, losses, weights_of


@dataclass(frozen=True)
class _Window:
    """Counts of one window."""

    clip: int
    first: int
    """Index of its first frame in the clip."""
    label: int
    probabilities: np.ndarray
    """[a] action probabilities."""
    objects: tuple[int, int]
    """Frames with a correct object, and frames with a known object."""
    hand_types: tuple[int, int] | None
    """Hands with a correct type, and hands with a known type; None if the model does not predict them."""
    spaces: tuple[Joints, ...]
    """Joint errors [hands joints ...], in the order of ``SPACES``."""
    early: np.ndarray | None
    """[s a] action probabilities at each observed share, 0 where it has no frame, or None if they are not known."""
    ahead: Ahead | None
    """Errors of the forecast, or None without one."""


@dataclass(frozen=True)
class _Terms:
    """Loss terms of one batch: totals and counts, [2 terms]; identified by its first window."""

    clip: int
    first: int
    sums: np.ndarray


@dataclass
class Evaluation:
    """Parts of every metric of a split, or of some of its windows.

    Args:
        info: facts of the evaluated data.
        loss: weights of the total loss.
    """

    info: DataInfo
    loss: LossConfig = field(default_factory=LossConfig)
    _windows: list[_Window] = field(default_factory=list)
    _terms: list[_Terms] = field(default_factory=list)

    def update(self, prediction: Prediction, batch: Batch, early: np.ndarray | None = None) -> None:
        """Add the predictions of a batch, and, if all batches have them, those of ``htt.evaluation.early``."""
        spaces = [_per_frame(*errors, thresholds_mm(self.info.hands, space)) for space, errors in
                  zip(SPACES, _errors_mm(prediction, batch, self.info.hands), strict=True)]  # fmt: skip
        probabilities = prediction.action_logits.detach().double().softmax(dim=-1).cpu().numpy()
        of_objects, of_types = _objects(prediction, batch), _hand_types(prediction, batch)
        ahead = _ahead(prediction, batch, self.info.hands)
        clips, labels, frames = batch.clip.tolist(), batch.action.tolist(), batch.frame.tolist()
        ends = [0, *batch.valid.sum(dim=1).cumsum(0).tolist()]
        for place, (start, end) in enumerate(pairwise(ends)):
            here = slice(start, end)
            objects, types = _count(of_objects, here), of_types and _count(of_types, here)
            joints = tuple(space.within(here) for space in spaces)
            shares = None if early is None else early[place]
            later = ahead and Ahead(ahead.error_mm[here].sum(axis=0), ahead.count[here].sum(axis=0, dtype=np.int32))
            counts = probabilities[place], objects, types, joints, shares, later
            self._windows.append(_Window(clips[place], frames[start], labels[place], *counts))
        terms = losses(prediction, batch)
        means = [terms.get(term) for term in (*TERMS, *AHEAD)]
        sums = np.array([[mean.total.item(), mean.count.item()] if mean else [0.0, 0.0] for mean in means]).T
        self._terms.append(_Terms(clips[0], frames[0], sums))

    def merge(self, other: Evaluation) -> Evaluation:
        """Return the evaluation of both parts; neither is changed."""
        return Evaluation(self.info, self.loss, self._windows + other._windows, self._terms + other._terms)

    def result(self) -> dict[str, float]:
        """Return every metric that has known values, by its name in ``METRICS``; no value is NaN."""
        found = self._losses()
        if self._windows:
            sums = self.sums()
            found |= {name: float(value[0]) for name, value in sums.hand_metrics(_all(sums)).items()}
            for name, vote in VOTES.items():
                correct = sums.correct(vote)
                found[name] = float(correct.mean()) if len(correct) else math.nan
            early = sums.early_correct()
            if early is not None and len(early):
                found[EARLY] = float(early_area(early.mean(axis=0)))
        return {name: found[name] for name in METRICS if not math.isnan(found.get(name, math.nan))}

    def curves(self) -> dict[str, Curve]:
        """Return the curve of each area: ``{"hand_auc": ..., "hand_auc_ra_left": ...}``."""
        sums = self.sums()
        curves = {name: Curve(each.distance_mm, each.fraction[0]) for name, each in sums.curves(_all(sums)).items()}
        return {name: curve for name, curve in curves.items() if not np.isnan(curve.fraction).any()}

    def sums(self) -> ClipSums:
        """Return the sums of each clip, in the order of the split; there must be at least one clip."""
        windows = sorted(self._windows, key=lambda window: (window.clip, window.first))
        clip = np.array([window.clip for window in windows])
        starts = np.flatnonzero(np.diff(clip, prepend=-1))

        def summed(parts: list[Any]) -> Any:
            """Return the sum of each clip, or None if a window does not have its part."""
            return None if any(part is None for part in parts) else np.add.reduceat(np.stack(parts), starts)

        error_mm, count = (
            summed([window.ahead and getattr(window.ahead, name) for window in windows])
            for name in ("error_mm", "count")
        )
        probabilities = [window.probabilities for window in windows]
        votes = np.eye(len(self.info.actions), dtype=int)
        return ClipSums(
            hands=self.info.hands,
            clip=clip[starts],
            label=np.array([window.label for window in windows])[starts],
            soft=summed(probabilities),
            hard=summed([votes[each.argmax()] for each in probabilities]),
            windows=np.diff(starts, append=len(windows)),
            objects=summed([window.objects for window in windows]),
            hand_types=summed([window.hand_types for window in windows]),
            spaces={
                space: Joints(
                    summed([window.spaces[place].error_mm for window in windows]),
                    summed([window.spaces[place].count for window in windows]),
                    summed([window.spaces[place].hits for window in windows]),
                )
                for place, space in enumerate(SPACES)
            },
            early=summed([window.early for window in windows]),
            ahead=None if error_mm is None else Ahead(error_mm, count),
            frame_rate=self.info.frame_rate,
        )

    def _losses(self) -> dict[str, float]:
        if not self._terms:
            return {}
        ordered = sorted(self._terms, key=lambda terms: (terms.clip, terms.first))
        totals, counts = np.add.reduce([terms.sums for terms in ordered])
        known = zip((*TERMS, *AHEAD), totals, counts, strict=True)
        values = {term: total / count for term, total, count in known if count}
        if not values:
            return {}
        weights = weights_of(self.loss)
        weighted = sum(weights[term] * value for term, value in values.items())
        return {"loss": weighted, **{f"loss_{term}": value for term, value in values.items()}}


def _objects(prediction: Prediction, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Return [n] whether a frame's object is predicted correctly, and whether it is known and predicted."""
    if not prediction.has_frames:
        nowhere = np.zeros(len(batch.object), bool)
        return nowhere, nowhere
    known = (batch.object != UNKNOWN).cpu().numpy()
    return (prediction.object_logits.argmax(dim=-1) == batch.object).cpu().numpy() & known, known


def _hand_types(prediction: Prediction, batch: Batch) -> tuple[np.ndarray, np.ndarray] | None:
    """Return [n hands] whether a hand's type is predicted correctly, and whether it is known; None if not predicted."""
    if prediction.hand_type_logits is None:
        return None
    labels = hand_types(prediction.hand_type_logits, batch)
    known = (labels != UNKNOWN).cpu().numpy()
    return (prediction.hand_type_logits.argmax(dim=-1) == labels).cpu().numpy() & known, known


def _count(of_batch: tuple[np.ndarray, np.ndarray], frames: slice) -> tuple[int, int]:
    """Return the numbers of correct and of known predictions in some frames."""
    right, known = of_batch
    return int(right[frames].sum()), int(known[frames].sum())


def _errors_mm(prediction: Prediction, batch: Batch, hands: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return errors [n hands joints], mm, and their validity: in camera space, then relative to the wrist.

    None is valid if the model does not predict hands.
    """
    shape = (-1, hands, JOINTS_PER_HAND)
    valid = batch.joint_valid.cpu().numpy().reshape(shape) & prediction.has_frames
    target = np.nan_to_num(batch.joints_m.double().cpu().numpy().reshape(*shape, 3))
    predicted = prediction.joints_m.detach().double().cpu().numpy() if prediction.has_frames else target
    difference = 1000 * (predicted.reshape(*shape, 3) - target)
    wrist, fingers = slice(WRIST, WRIST + 1), slice(WRIST + 1, None)
    aligned = difference[:, :, fingers] - difference[:, :, wrist]
    return [
        (np.linalg.norm(difference, axis=-1), valid),
        (np.linalg.norm(aligned, axis=-1), valid[..., fingers] & valid[..., wrist]),
    ]


def _ahead(prediction: Prediction, batch: Batch, hands: int) -> Ahead | None:
    """Return the errors of the forecast of every frame of a batch, [n ...], or None without a forecast.

    Both baselines start from the model's own hands of the frame, seen without later frames, which is all that a user
    has. From true hands they would know what no camera shows. The first frame of a window has no velocity.
    """
    if prediction.forecast is None or batch.ahead_m is None or batch.ahead_valid is None:
        return None
    found = prediction.forecast.joints_m.detach().double().cpu().numpy()
    target = batch.ahead_m.double().cpu().numpy()[:, 1:]
    valid = batch.ahead_valid.cpu().numpy()[:, 1:]
    now, frame = found[:, 0], batch.frame.cpu().numpy()
    first = np.diff(window_of_frame(batch.valid).cpu().numpy(), prepend=-1) > 0
    apart = np.where(first, 1, np.diff(frame, prepend=-1))
    velocity = np.where(first[:, None, None], 0.0, np.diff(now, axis=0, prepend=now[:1])) / apart[:, None, None]
    steps = np.arange(1, found.shape[1])[:, None, None]
    forecasts = found[:, 1:], now[:, None], now[:, None] + steps * velocity[:, None]
    off_mm = [1000 * np.linalg.norm(each - target, axis=-1) for each in forecasts]
    error_mm = np.where(valid[:, None], np.stack(off_mm, axis=1), 0.0)
    per_hand = (hands, JOINTS_PER_HAND)
    return Ahead(error_mm.reshape(*error_mm.shape[:-1], *per_hand), valid.reshape(*valid.shape[:-1], *per_hand))


@dataclass(frozen=True)
class _Frames:
    """Errors of every frame of a batch in one space, each with the number of thresholds below it."""

    error_mm: np.ndarray
    valid: np.ndarray
    above: np.ndarray
    thresholds: int

    def within(self, frames: slice) -> Joints:
        """Return the sums over some frames."""
        valid, above = self.valid[frames], self.above[frames]
        first_hits = (above[..., None] == np.arange(self.thresholds)) & valid[..., None]
        hits = first_hits.sum(axis=0, dtype=np.int32).cumsum(axis=-1, dtype=np.int32)
        return Joints(self.error_mm[frames].sum(axis=0), valid.sum(axis=0, dtype=np.int32), hits)


def _per_frame(error_mm: np.ndarray, valid: np.ndarray, distance_mm: np.ndarray) -> _Frames:
    above = np.searchsorted(distance_mm, error_mm)  # a hit is an error of the threshold or less
    return _Frames(np.where(valid, error_mm, 0.0), valid, above, len(distance_mm))


def _all(sums: ClipSums) -> np.ndarray:
    """Return weights [1 c] that take every clip once."""
    return np.ones((1, len(sums.clip)))
