"""Loss terms, as sums and counts, so that parts of a batch can be merged without changing a number.

``L = joints_px * mean|uv - uv*| + depth_m * mean|Z - Z*| + object * CE + action * CE``: means over known targets (valid
frames, visible hands, known labels), joints and coordinates. The cue hand_type adds ``hand_type * CE`` of hands. The
weights are ``htt.config.LossConfig``. A forecast of hands has the same two terms as the hands, over its frames. With a
teacher, ``distillation`` gives further terms, whose weights are ``htt.config.DistillConfig``.

Source: HTT (Wen et al. 2023), section 3.4. In the paper's lambdas: joints_px = 2 lambda_2 (the mean is over two
coordinates), depth_m = lambda_1 lambda_2, object = action = lambda_3.

With several workers, each sees a part of the batch, and their gradients are averaged. ``share`` gives each worker the
means whose averaged gradients are those of the whole batch, once the counts of all workers are summed::

    means = losses(prediction, batch)
    counts = counts_of(means)                 # [terms]; sum it over the workers
    total(share(means, counts, workers), config.loss).backward()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from htt.batch import Batch, Prediction
from htt.config import DistillConfig, LossConfig
from htt.info import UNKNOWN

TERMS = ("joints_px", "depth_m", "object", "action", "hand_type")
"""Names of the terms: fields of ``LossConfig``, in order; the last is absent without a head for hand types."""
AHEAD = ("forecast_px", "forecast_depth_m")
"""Names of the further terms of a model with a forecast, in order."""
DISTILLED = ("teacher_joints_px", "teacher_depth_m", "teacher_action")
"""Names of the further terms of a training with a teacher, in order."""


@dataclass(frozen=True)
class Mean:
    """Mergeable mean: a sum and its count."""

    total: Float[Tensor, ""]
    count: Float[Tensor, ""]

    def merge(self, other: Mean) -> Mean:
        """Return the mean over both parts."""
        return Mean(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> Float[Tensor, ""]:
        """The mean; 0, with a gradient of 0, if the count is 0."""
        return self.total / torch.where(self.count > 0, self.count, 1.0)


def losses(
    prediction: Prediction, batch: Batch, joints_px: Float[Tensor, "n j 2"] | None = None, smoothing: float = 0.0
) -> dict[str, Mean]:
    """Return every loss term, without its weight: px, m, and nats; counts are 0 for what the model does not predict.

    The terms of ``AHEAD`` are there only if the model forecasts.

    Args:
        prediction: predictions for the batch.
        batch: batch with the targets.
        joints_px: target positions of the joints in the image, or None for the batch's.
        smoothing: share of the probability that targets give to all classes alike, in a training.
    """
    action = _cross_entropy(prediction.action_logits, batch.action, smoothing)
    if not prediction.has_frames:
        none = Mean(torch.zeros_like(action.total), torch.zeros_like(action.count))
        return {"joints_px": none, "depth_m": none, "object": none, "action": action}
    target_px = batch.joints_px if joints_px is None else joints_px
    means = {
        "joints_px": _absolute(prediction.joints_px, target_px, batch.joint_valid[..., None].expand_as(target_px)),
        "depth_m": _absolute(prediction.depth_m, batch.joints_m[..., 2], batch.joint_valid),
        "object": _cross_entropy(prediction.object_logits, batch.object, smoothing),
        "action": action,
    }
    if prediction.hand_type_logits is not None:
        labels = hand_types(prediction.hand_type_logits, batch)
        means["hand_type"] = _cross_entropy(prediction.hand_type_logits.flatten(0, 1), labels.flatten(), smoothing)
    return means | _ahead(prediction, batch)


def hand_types(logits: Float[Tensor, "n hands types"], batch: Batch) -> Int[Tensor, "n hands"]:
    """Return the true hand types of a batch for these predictions; all are ``UNKNOWN`` if the data do not name them."""
    unknown = torch.full(logits.shape[:2], UNKNOWN, device=logits.device)
    return unknown if batch.hand_type is None else batch.hand_type


def distillation(prediction: Prediction, teacher: Prediction, batch: Batch, temperature: float) -> dict[str, Mean]:
    """Return the terms of ``DISTILLED``, without their weights: px, m, and nats of all windows.

    The divergence is multiplied by the square of the temperature, so that its gradient does not depend on it much.

    Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.
    """
    own, wanted = (F.log_softmax(each.action_logits / temperature, dim=-1) for each in (prediction, teacher))
    divergence = temperature**2 * F.kl_div(own, wanted, reduction="sum", log_target=True)
    valid = batch.joint_valid[..., None].expand_as(prediction.joints_px)
    return {
        "teacher_joints_px": _absolute(prediction.joints_px, teacher.joints_px, valid),
        "teacher_depth_m": _absolute(prediction.depth_m, teacher.depth_m, batch.joint_valid),
        "teacher_action": Mean(divergence, divergence.new_tensor(float(len(own)))),
    }


def merge(first: Mapping[str, Mean], second: Mapping[str, Mean]) -> dict[str, Mean]:
    """Return the merged terms of two parts of a batch."""
    return {term: mean.merge(second[term]) for term, mean in first.items()}


def total(means: Mapping[str, Mean], config: LossConfig, distill: DistillConfig | None = None) -> Float[Tensor, ""]:
    """Return the weighted sum of all terms; a term of weight 0 still takes part, with a gradient of 0.

    Args:
        means: terms of ``losses``, and those of ``distillation`` if there is a teacher.
        config: weights of the former.
        distill: weights of the latter, or None for the defaults.
    """
    own = distill or DistillConfig()
    distilled = (own.pose * config.joints_px, own.pose * config.depth_m, own.action)
    weights = {**weights_of(config), **dict(zip(DISTILLED, distilled, strict=True))}
    return torch.stack([weights[term] * mean.value for term, mean in means.items()]).sum()


def weights_of(config: LossConfig) -> dict[str, float]:
    """Return the weight of each term of ``losses``."""
    ahead = (config.forecast * config.joints_px, config.forecast * config.depth_m)
    return {**config.model_dump(include={*TERMS}), **dict(zip(AHEAD, ahead, strict=True))}


def counts_of(means: Mapping[str, Mean]) -> Float[Tensor, " terms"]:
    """Return the count of each term, in their order, for the sum over workers."""
    return torch.stack([mean.count for mean in means.values()])


def counts_of_labels(batch: Batch, *, distilled: bool = False, hand_types: bool = False) -> Float[Tensor, " terms"]:
    """Return what ``counts_of`` returns for any prediction of a batch.

    Args:
        batch: batch with the targets.
        distilled: True with the terms of a teacher.
        hand_types: True if the model has a head for hand types.
    """
    joints = batch.joint_valid.sum()
    classes = [(labels != UNKNOWN).sum() for labels in (batch.object, batch.action)]
    if hand_types:
        classes.append(joints.new_tensor(0) if batch.hand_type is None else (batch.hand_type != UNKNOWN).sum())
    ahead = [] if batch.ahead_valid is None else [2 * batch.ahead_valid.sum(), batch.ahead_valid.sum()]
    of_teacher = [2 * joints, joints, joints.new_tensor(len(batch.action))] if distilled else []
    return torch.stack([2 * joints, joints, *classes, *ahead, *of_teacher]).float()


def share(means: Mapping[str, Mean], counts: Float[Tensor, " terms"], workers: int) -> dict[str, Mean]:
    """Return this worker's share of the means of the whole batch.

    Args:
        means: means of this worker's part of the batch.
        counts: ``counts_of`` every worker's means, summed.
        workers: number of workers over which gradients are averaged.
    """
    return {term: Mean(mean.total, counts[index] / workers) for index, (term, mean) in enumerate(means.items())}


def _ahead(prediction: Prediction, batch: Batch) -> dict[str, Mean]:
    """Return the terms of the forecast, if there is one, over each frame and those after it."""
    found = prediction.forecast
    if found is None or batch.ahead_px is None or batch.ahead_m is None or batch.ahead_valid is None:
        return {}
    valid = batch.ahead_valid
    return {
        "forecast_px": _absolute(found.joints_px, batch.ahead_px, valid[..., None].expand_as(found.joints_px)),
        "forecast_depth_m": _absolute(found.depth_m, batch.ahead_m[..., 2], valid),
    }


def _absolute(predicted: Tensor, target: Tensor, valid: Tensor) -> Mean:
    """Return absolute differences where valid. Invalid targets may even be NaN: they are replaced, not scaled."""
    difference = torch.where(valid, predicted.float(), 0.0) - torch.where(valid, target.float(), 0.0)
    return Mean(difference.abs().sum(), valid.sum().float())


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Mean:
    total = F.cross_entropy(logits.float(), labels, ignore_index=UNKNOWN, reduction="sum", label_smoothing=smoothing)
    return Mean(total, (labels != UNKNOWN).sum().float())
