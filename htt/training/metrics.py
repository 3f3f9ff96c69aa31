"""How good predictions are, as sums that can be joined: over batches, over workers, in any order.

An ``Evaluation`` is fed batch by batch. What it keeps is small: for each joint a summed error, a count and the hits
below each threshold; for each clip the votes of its windows. Errors and curves are averaged over the frames of a joint
first, then over joints, so a joint that is seldom seen counts as much as any other.

Source: HTT (Wen et al. 2023), section 4.1; thresholds as in the evaluation of H2O and FPHA. The names, units and
directions of all metrics are in ``htt.training.metric_table``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from htt.batch import UNKNOWN, Batch, DataInfo, Prediction, window_of_frame
from htt.config import LossConfig
from htt.hand import HANDS, JOINTS_PER_HAND, WRIST, hand_names
from htt.training.losses import TERMS, losses
from htt.training.metric_table import METRICS, Metric

__all__ = ["METRICS", "SPACES", "ClipResult", "Curve", "Evaluation", "Metric", "thresholds_mm"]

SPACES = ("", "_ra")
"""What a joint's place is relative to: the camera, or the wrist of its hand ("root-aligned")."""


def thresholds_mm(hands: int, space: str) -> np.ndarray:
    """Distances at which hits are counted: 0-80 mm with one hand, 0-90 mm with two, 0-50 mm relative to the wrist.

    Source: FPHA's and H2O's evaluations, a step of 2.5 mm in each.
    """
    if space == "_ra":
        return np.linspace(0, 50, 21)
    return np.linspace(0, 90, 37) if hands == len(HANDS) else np.linspace(0, 80, 33)


@dataclass(frozen=True)
class Curve:
    """The fraction of joints within a distance, for a growing distance."""

    distance_mm: np.ndarray
    fraction: np.ndarray

    @property
    def area(self) -> float:
        """Area below the curve by trapezoids, as a fraction of the whole."""
        return float(np.trapezoid(self.fraction, self.distance_mm) / self.distance_mm[-1])


@dataclass(frozen=True)
class ClipResult:
    """What an evaluation says about one clip."""

    clip: int
    """Index of the clip in its split."""
    hand_error_mm: float | None
    """Mean over its frames and joints; none if no hand is annotated."""
    action: int
    """Predicted by soft vote."""
    probability: float
    """Mean probability its windows gave that action."""
    label: int
    """The true action, or ``UNKNOWN``."""

    @property
    def correct(self) -> bool | None:
        """Whether the action is right; none if it is not known."""
        return None if self.label == UNKNOWN else self.action == self.label


@dataclass
class _Joints:
    """Errors of every joint in one space: summed (mm), counted, and counted below each threshold."""

    distance_mm: np.ndarray
    error: np.ndarray
    count: np.ndarray
    hits: np.ndarray

    @classmethod
    def empty(cls, hands: int, space: str) -> _Joints:
        distance_mm = thresholds_mm(hands, space)
        shape = (hands, JOINTS_PER_HAND - (space == "_ra"))
        return cls(distance_mm, np.zeros(shape), np.zeros(shape, int), np.zeros((*shape, len(distance_mm)), int))

    def add(self, error_mm: np.ndarray, valid: np.ndarray) -> None:
        """[n hands joints] errors, where valid."""
        self.error += np.where(valid, error_mm, 0.0).sum(axis=0)
        self.count += valid.sum(axis=0)
        within = (error_mm[..., None] <= self.distance_mm) & valid[..., None]
        self.hits += within.sum(axis=0)

    def mean_mm(self, hand: slice) -> float | None:
        """Mean error of some hands: of each joint, then over the joints that were seen."""
        seen = self.count[hand] > 0
        return float((self.error[hand][seen] / self.count[hand][seen]).mean()) if seen.any() else None

    def curve(self, hand: slice) -> Curve | None:
        """The curve of some hands: of each joint, then over the joints that were seen."""
        seen = self.count[hand] > 0
        if not seen.any():
            return None
        return Curve(self.distance_mm, (self.hits[hand][seen] / self.count[hand][seen][:, None]).mean(axis=0))


@dataclass
class _Clip:
    """The votes of a clip's windows, and the summed error (mm) of its joints."""

    label: int
    soft: np.ndarray
    hard: np.ndarray
    windows: int = 0
    error: float = 0.0
    joints: int = 0


@dataclass
class Evaluation:
    """The sums behind every metric of a split, or of a part of it.

    Args:
        info: of the data that are evaluated.
        loss: the weights the total loss is reported with.
    """

    info: DataInfo
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        self._spaces = {space: _Joints.empty(self.info.hands, space) for space in SPACES}
        self._clips: dict[int, _Clip] = {}
        self._terms = np.zeros((2, len(TERMS)))  # totals, counts
        self._objects = np.zeros(2, int)  # right ones, known ones

    def update(self, prediction: Prediction, batch: Batch) -> None:
        """Take in what the model says about a batch."""
        for place, mean in enumerate(losses(prediction, batch).values()):
            self._terms[:, place] += (mean.total.item(), mean.count.item())
        self._add_hands(prediction, batch)
        known = batch.object != UNKNOWN
        right = (prediction.object_logits.argmax(dim=-1) == batch.object) & known
        self._objects += (int(right.sum()), int(known.sum()))
        self._add_actions(prediction, batch)

    def merge(self, other: Evaluation) -> Evaluation:
        """The evaluation of both parts; neither changes."""
        both = Evaluation(self.info, self.loss)
        for part in (self, other):
            both._take(part)
        return both

    def result(self) -> dict[str, float]:
        """Every metric there is something to say about, by its name in ``METRICS``; nothing is ever NaN."""
        found = {**self._losses(), **dict(self._hands()), **self._accuracies()}
        return {name: float(value) for name in METRICS if (value := found.get(name)) is not None}

    def curves(self) -> dict[str, Curve]:
        """The curve behind each area: ``{"hand_auc": ..., "hand_auc_ra_left": ...}``."""
        curves = {
            f"hand_auc{space}{suffix}": joints.curve(hand)
            for space, joints in self._spaces.items()
            for suffix, hand in self._hand_slices()
        }
        return {name: curve for name, curve in curves.items() if curve is not None}

    def clips(self) -> list[ClipResult]:
        """The result of every clip, in the order of the split."""
        return [
            ClipResult(
                clip,
                votes.error / votes.joints if votes.joints else None,
                int(votes.soft.argmax()),
                float(votes.soft.max() / votes.windows),
                votes.label,
            )
            for clip, votes in sorted(self._clips.items())
        ]

    def to_plain(self) -> dict[str, Any]:
        """The sums as plain values and small arrays, to be sent to another process."""
        return {
            "info": asdict(self.info),
            "loss": self.loss.model_dump(),
            "spaces": {space: asdict(joints) for space, joints in self._spaces.items()},
            "clips": {clip: asdict(votes) for clip, votes in self._clips.items()},
            "terms": self._terms.copy(),
            "objects": self._objects.copy(),
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Evaluation:
        """Undoes ``to_plain``."""
        evaluation = cls(DataInfo(**plain["info"]), LossConfig(**plain["loss"]))
        evaluation._spaces = {space: _Joints(**sums) for space, sums in plain["spaces"].items()}
        evaluation._clips = {clip: _Clip(**votes) for clip, votes in plain["clips"].items()}
        evaluation._terms, evaluation._objects = plain["terms"].copy(), plain["objects"].copy()
        return evaluation

    def _add_hands(self, prediction: Prediction, batch: Batch) -> None:
        shape = (-1, self.info.hands, JOINTS_PER_HAND)
        valid = batch.joint_valid.cpu().numpy().reshape(shape)
        target = np.nan_to_num(batch.joints_m.double().cpu().numpy().reshape(*shape, 3))
        difference = 1000 * (prediction.joints_m.detach().double().cpu().numpy().reshape(*shape, 3) - target)
        error_mm = np.linalg.norm(difference, axis=-1)
        self._spaces[""].add(error_mm, valid)

        wrist, fingers = slice(WRIST, WRIST + 1), slice(WRIST + 1, None)
        aligned_mm = np.linalg.norm(difference - difference[:, :, wrist], axis=-1)
        self._spaces["_ra"].add(aligned_mm[..., fingers], valid[..., fingers] & valid[..., wrist])

        clips = batch.clip[window_of_frame(batch.valid)].cpu().numpy()
        for clip in np.unique(clips).tolist():
            votes = self._clip(clip)
            votes.error += float(error_mm[clips == clip][valid[clips == clip]].sum())
            votes.joints += int(valid[clips == clip].sum())

    def _add_actions(self, prediction: Prediction, batch: Batch) -> None:
        probabilities = prediction.action_logits.detach().double().softmax(dim=-1).cpu().numpy()
        for clip, label, soft in zip(batch.clip.tolist(), batch.action.tolist(), probabilities, strict=True):
            votes = self._clip(clip)
            votes.label = label
            votes.soft += soft
            votes.hard[soft.argmax()] += 1
            votes.windows += 1

    def _clip(self, clip: int) -> _Clip:
        actions = len(self.info.actions)
        return self._clips.setdefault(clip, _Clip(UNKNOWN, np.zeros(actions), np.zeros(actions, int)))

    def _take(self, other: Evaluation) -> None:
        self._terms += other._terms
        self._objects += other._objects
        for space, joints in self._spaces.items():
            for name in ("error", "count", "hits"):
                setattr(joints, name, getattr(joints, name) + getattr(other._spaces[space], name))
        for clip, votes in other._clips.items():
            own = self._clip(clip)
            own.label = votes.label
            for name in ("soft", "hard", "windows", "error", "joints"):
                setattr(own, name, getattr(own, name) + getattr(votes, name))

    def _hand_slices(self) -> Iterator[tuple[str, slice]]:
        """Suffix of a metric's name -> the hands it is about."""
        yield "", slice(None)
        for place, hand in enumerate(hand_names(self.info.hands)):
            yield f"_{hand}", slice(place, place + 1)

    def _hands(self) -> Iterator[tuple[str, float | None]]:
        for space, joints in self._spaces.items():
            for suffix, hand in self._hand_slices():
                yield f"hand_error{space}{suffix}_mm", joints.mean_mm(hand)
        for name, curve in self.curves().items():
            yield name, curve.area

    def _losses(self) -> dict[str, float]:
        values = {term: total / count for term, total, count in zip(TERMS, *self._terms, strict=True) if count}
        if not values:
            return {}
        weighted = sum(getattr(self.loss, term) * value for term, value in values.items())
        return {"loss": weighted, **{f"loss_{term}": value for term, value in values.items()}}

    def _accuracies(self) -> dict[str, float]:
        right, known = self._objects
        labelled = [votes for votes in self._clips.values() if votes.label != UNKNOWN]
        found = {"object_accuracy": right / known} if known else {}
        if labelled:
            found["action_accuracy"] = np.mean([votes.soft.argmax() == votes.label for votes in labelled])
            found["action_accuracy_hard"] = np.mean([votes.hard.argmax() == votes.label for votes in labelled])
        return found
