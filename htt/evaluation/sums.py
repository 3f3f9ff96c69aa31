"""Sums of an evaluation for each clip, and every metric as a function of them. Imports no torch.

``ClipSums`` holds, for each clip, sums of every joint's error, its valid frames and its hits within each distance, of
the votes of the clip's windows, and of its frames' objects and hand types. Metrics are functions of these sums over
clips, weighted or not, so that intervals can be computed by resampling clips (``htt.evaluation.intervals``).

Errors and curves are averaged over the frames of a joint first, then over joints, so a rarely seen joint counts as much
as any other. Source: HTT (Wen et al. 2023), section 4.1; thresholds as in the evaluation of H2O and FPHA.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from htt.evaluation.metric_table import BASELINES, TIMES_MS, frame_at
from htt.hand import HANDS, hand_names
from htt.info import UNKNOWN

SPACES = ("", "_ra")
"""Spaces of joint positions: relative to the camera, and to the wrist of the hand ("root-aligned")."""
VOTES = {"action_accuracy": "soft", "action_accuracy_hard": "hard"}
"""{metric: vote that predicts a clip's action}."""
SHARES = tuple(tenth / 10 for tenth in range(1, 11))
"""Observed shares of a clip at which its action is predicted, if the early action is measured."""


def thresholds_mm(hands: int, space: str) -> np.ndarray:
    """Return the distances at which hits are counted, in steps of 2.5 mm.

    0-80 mm with one hand, 0-90 mm with two, 0-50 mm relative to the wrist. Source: FPHA's and H2O's evaluations.
    """
    if space == "_ra":
        return np.linspace(0, 50, 21)
    return np.linspace(0, 90, 37) if hands == len(HANDS) else np.linspace(0, 80, 33)


@dataclass(frozen=True)
class Curve:
    """Fraction of joints within a distance, for increasing distances."""

    distance_mm: np.ndarray
    fraction: np.ndarray
    """[... thresholds]"""

    @property
    def area(self) -> np.ndarray:
        """[...] area below the curve by trapezoids, as a fraction of the whole."""
        area: np.ndarray = np.trapezoid(self.fraction, self.distance_mm) / self.distance_mm[-1]
        return area


@dataclass(frozen=True)
class Joints:
    """Errors of every joint in one space, for some clips: sum (mm), count, and count within each distance."""

    error_mm: np.ndarray
    """[... hands joints]"""
    count: np.ndarray
    """[... hands joints]"""
    hits: np.ndarray
    """[... hands joints thresholds]"""

    def mean_mm(self, hand: slice) -> np.ndarray:
        """Return the [...] mean error of some hands: per joint, then over the seen joints; NaN if no joint was seen."""
        return _mean_over_seen(self.error_mm[..., hand, :], self.count[..., hand, :])

    def fraction(self, hand: slice) -> np.ndarray:
        """Return the [... thresholds] share of joints within each distance, averaged as in ``mean_mm``."""
        hits = np.moveaxis(self.hits[..., hand, :, :], -1, 0)
        return np.moveaxis(_mean_over_seen(hits, self.count[..., hand, :]), 0, -1)

    def drawn(self, weights: np.ndarray) -> Joints:
        """Return the sums over clips, each clip weighted by ``weights`` [r clips]."""
        return Joints(*(np.tensordot(weights, part, 1) for part in (self.error_mm, self.count, self.hits)))


@dataclass(frozen=True)
class Ahead:
    """Errors of every forecast joint, for some clips and each later frame: sum (mm), and count."""

    error_mm: np.ndarray
    """[... 3 s hands joints]: of the forecast, then of each of ``BASELINES``; s does not include the frame itself."""
    count: np.ndarray
    """[... s hands joints], the same for all three."""

    def mean_mm(self, weights: np.ndarray) -> np.ndarray:
        """Return [r 3 s] the mean errors for clips weighted by ``weights`` [r clips], averaged as those of hands."""
        steps = []
        for step in range(self.count.shape[1]):  # one by one: all draws of all steps together need gigabytes
            total, count = (np.tensordot(weights, part, 1) for part in (self.error_mm[:, :, step], self.count[:, step]))
            steps.append(_mean_over_seen(total, count[:, None]))
        return np.stack(steps, axis=-1)


@dataclass(frozen=True)
class ClipSums:
    """Sums of each clip of a split, in order."""

    hands: int
    clip: np.ndarray
    """[c] index of the clip in its split."""
    label: np.ndarray
    """[c] true action, or ``UNKNOWN``."""
    soft: np.ndarray
    """[c a] summed probabilities of its windows."""
    hard: np.ndarray
    """[c a] votes of its windows."""
    windows: np.ndarray
    """[c] number of its windows."""
    objects: np.ndarray
    """[c 2] frames with a correct object, and frames with a known object."""
    spaces: Mapping[str, Joints]
    """{space: joint errors [c hands joints ...]} for each of ``SPACES``."""
    early: np.ndarray | None = None
    """[c s a] summed probabilities of its windows at each of ``SHARES``, or None if the early action is not known."""
    hand_types: np.ndarray | None = None
    """[c 2] hands with a correct type, and hands with a known type; None if the model does not predict them."""
    ahead: Ahead | None = None
    """Errors of the forecast [c ...], or None without one."""
    frame_rate: float = math.nan
    """Frames per second of the clips; used for the forecast."""

    def actions(self, vote: str = "soft") -> np.ndarray:
        """Return the [c] predicted action of each clip, by summed probabilities or (``hard``) by one vote per window.

        In a tie of votes, the action with the highest summed probability wins. In the released code the lower class
        wins; but most clips of H2O have two windows, so ties are common.
        """
        most = self.hard == self.hard.max(axis=1, keepdims=True)
        chosen: np.ndarray = (self.soft if vote == "soft" else np.where(most, self.soft, -np.inf)).argmax(axis=1)
        return chosen

    def correct(self, vote: str = "soft") -> np.ndarray:
        """Return whether the predicted action is right, for each clip with a known action."""
        known = self.label != UNKNOWN
        right: np.ndarray = self.actions(vote)[known] == self.label[known]
        return right

    def early_correct(self) -> np.ndarray | None:
        """Return whether the action predicted at each share is right [c s], for clips with a known action, or None."""
        if self.early is None:
            return None
        known = self.label != UNKNOWN
        right: np.ndarray = self.early[known].argmax(axis=2) == self.label[known, None]
        return right

    def hand_slices(self) -> Iterator[tuple[str, slice]]:
        """Yield (suffix of a metric's name, hands it covers)."""
        yield "", slice(None)
        for place, hand in enumerate(hand_names(self.hands)):
            yield f"_{hand}", slice(place, place + 1)

    def hand_metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return {metric: [r]} of hands, objects, hand types and forecast for clips weighted by ``weights`` [r c].

        Values are NaN if none is known.
        """
        found: dict[str, np.ndarray] = {}
        for space, joints in self.spaces.items():
            drawn, distance_mm = joints.drawn(weights), thresholds_mm(self.hands, space)
            for suffix, hand in self.hand_slices():
                found[f"hand_error{space}{suffix}_mm"] = drawn.mean_mm(hand)
                found[f"hand_auc{space}{suffix}"] = Curve(distance_mm, drawn.fraction(hand)).area
        for name, counts in (("object_accuracy", self.objects), ("hand_type_accuracy", self.hand_types)):
            if counts is not None:
                right, known = np.moveaxis(np.tensordot(weights, counts, 1), -1, 0)
                found[name] = _ratio(right, known)
        return found | self.forecast_metrics(weights)

    def forecast_metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Return {metric: [r]} of the forecast for clips weighted by ``weights`` [r c]; empty without a forecast.

        The error of the whole forecast is the mean over its frames: the frames far ahead, which fewer frames of a clip
        have, count as much as the near ones.
        """
        if self.ahead is None:
            return {}
        mean_mm, found = self.ahead.mean_mm(weights), {}
        known = ~np.isnan(mean_mm)
        parts = {"": _ratio(np.where(known, mean_mm, 0.0).sum(axis=-1), known.sum(axis=-1))}
        for time_ms in TIMES_MS:
            step = frame_at(time_ms, self.frame_rate)
            if step is not None and step <= mean_mm.shape[-1]:
                parts[f"_{time_ms}ms"] = mean_mm[..., step - 1]
        for at, part in parts.items():
            forecast, *baselines = np.moveaxis(part, -1, 0)
            found[f"forecast_error{at}_mm"] = forecast
            for name, baseline in zip(BASELINES, baselines, strict=True):
                found[f"forecast_{name}_error{at}_mm"] = baseline
                found[f"forecast_gain_over_{name}{at}_mm"] = baseline - forecast
        return found

    def curves(self, weights: np.ndarray) -> dict[str, Curve]:
        """Return {name of the area: its curve [r thresholds]} for clips weighted by ``weights`` [r c]."""
        return {
            f"hand_auc{space}{suffix}": Curve(thresholds_mm(self.hands, space), drawn.fraction(hand))
            for space, drawn in ((space, joints.drawn(weights)) for space, joints in self.spaces.items())
            for suffix, hand in self.hand_slices()
        }


def early_area(accuracy: np.ndarray) -> np.ndarray:
    """Return the [...] area under the curve of [... s] accuracies or hits at ``SHARES``, by trapezoids, from 0 to 1."""
    area: np.ndarray = np.trapezoid(accuracy.astype(float), SHARES) / (SHARES[-1] - SHARES[0])
    return area


def _mean_over_seen(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the mean over hands and joints (the last two axes) of total / count, where the count is positive."""
    each, seen = _ratio(total, count), np.broadcast_to(count > 0, total.shape)
    return _ratio(np.where(seen, each, 0.0).sum(axis=(-2, -1)), seen.sum(axis=(-2, -1)))


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the quotient; NaN where the count is 0."""
    shape = np.broadcast_shapes(total.shape, count.shape)
    quotient = np.full(shape, np.nan)
    np.divide(total, count, out=quotient, where=np.broadcast_to(count > 0, shape))
    return quotient
