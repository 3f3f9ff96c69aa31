"""Loss terms, as sums and counts, so that parts of a batch can be merged without changing a number.

``L = joints_px * mean|uv - uv*| + depth_m * mean|Z - Z*| + object * CE + action * CE``: means over known targets (valid
frames, visible hands, known labels), joints and coordinates. The weights are ``htt.config.LossConfig``.

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
from jaxtyping import Float
from torch import Tensor

from htt.batch import Batch, Prediction
from htt.config import LossConfig
from htt.info import UNKNOWN

TERMS = ("joints_px", "depth_m", "object", "action")
"""Names of the terms: the fields of ``LossConfig``, in order."""


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
    return {
        "joints_px": _absolute(prediction.joints_px, target_px, batch.joint_valid[..., None].expand_as(target_px)),
        "depth_m": _absolute(prediction.depth_m, batch.joints_m[..., 2], batch.joint_valid),
        "object": _cross_entropy(prediction.object_logits, batch.object, smoothing),
        "action": action,
    }


def merge(first: Mapping[str, Mean], second: Mapping[str, Mean]) -> dict[str, Mean]:
    """Return the merged terms of two parts of a batch."""
    return {term: mean.merge(second[term]) for term, mean in first.items()}


def total(means: Mapping[str, Mean], config: LossConfig) -> Float[Tensor, ""]:
    """Return the weighted sum of all terms; a term of weight 0 still takes part, with a gradient of 0."""
    return torch.stack([getattr(config, term) * means[term].value for term in TERMS]).sum()


def counts_of(means: Mapping[str, Mean]) -> Float[Tensor, " terms"]:
    """Return the count of each term, in the order of ``TERMS``, for the sum over workers."""
    return torch.stack([means[term].count for term in TERMS])


def counts_of_labels(batch: Batch) -> Float[Tensor, " terms"]:
    """Return what ``counts_of`` returns for any prediction of a batch."""
    joints = batch.joint_valid.sum()
    classes = [(labels != UNKNOWN).sum() for labels in (batch.object, batch.action)]
    return torch.stack([2 * joints, joints, *classes]).float()


def share(means: Mapping[str, Mean], counts: Float[Tensor, " terms"], workers: int) -> dict[str, Mean]:
    """Return this worker's share of the means of the whole batch.

    Args:
        means: means of this worker's part of the batch.
        counts: ``counts_of`` every worker's means, summed.
        workers: number of workers over which gradients are averaged.
    """
    return {term: Mean(means[term].total, counts[index] / workers) for index, term in enumerate(TERMS)}


def _absolute(predicted: Tensor, target: Tensor, valid: Tensor) -> Mean:
    """Return absolute differences where valid. Invalid targets may even be NaN: they are replaced, not scaled."""
    difference = torch.where(valid, predicted.float(), 0.0) - torch.where(valid, target.float(), 0.0)
    return Mean(difference.abs().sum(), valid.sum().float())


def _cross_entropy(logits: Tensor, labels: Tensor, smoothing: float) -> Mean:
    total = F.cross_entropy(logits.float(), labels, ignore_index=UNKNOWN, reduction="sum", label_smoothing=smoothing)
    return Mean(total, (labels != UNKNOWN).sum().float())
