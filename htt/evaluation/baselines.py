"""Baselines that predict without the images: the mean pose, and chance. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from htt.evaluation.metric_table import EARLY
from htt.evaluation.sums import VOTES

if TYPE_CHECKING:
    from htt.data.loading.clips import Clips


def mean_pose_error_mm(train: Clips, val: Clips) -> float:
    """Return the hand error on the validation clips of predicting each joint at its mean position in training.

    As in the metric, errors are averaged over the frames of each joint first. Joints that one of the splits never shows
    are left out; NaN if there are no others.
    """
    joints, valid = _joints(train)
    weights = valid[..., None]
    with np.errstate(invalid="ignore"):
        mean = np.where(weights, joints, 0.0).sum(axis=0) / weights.sum(axis=0)
        joints, valid = _joints(val)
        errors = np.where(valid, np.linalg.norm(joints - mean, axis=-1), 0.0).sum(axis=0) / valid.sum(axis=0)
    known = errors[np.isfinite(errors)]
    return float(1000 * known.mean()) if known.size else float("nan")


def chance(val: Clips) -> dict[str, float]:
    """Return {metric: accuracy of naming actions, objects and hand types at random}."""
    actions = dict.fromkeys((*VOTES, EARLY), 1 / len(val.info.actions))
    classes = {"object_accuracy": val.info.objects, "hand_type_accuracy": val.info.hand_types}
    return {**actions, **{name: 1 / len(known) for name, known in classes.items() if known}}


def _joints(clips: Clips) -> tuple[np.ndarray, np.ndarray]:
    """Return the joints [n j 3] of all frames, and their validity [n j]."""
    joints = np.concatenate([clips.joints(clip) for clip in range(len(clips))]).astype(np.float64)
    hands = np.concatenate([clips.hand_valid(clip) for clip in range(len(clips))])
    return joints, np.repeat(hands, joints.shape[1] // hands.shape[1], axis=1)
