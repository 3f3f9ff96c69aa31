"""Pseudo-labels: the labels that a teacher gives to clips without labels, for ``data.unlabelled`` pseudo_labels.

The teacher is the moving average of the model's weights. A batch has the windows of such clips three times: for the
model, and for the teacher's two views, which are other augmentations. A label is the mean of the predictions for both
views, and is given only where ``htt.config.PseudoConfig`` calls the teacher sure: the joint is at nearly the same place
in both views, or the class has a high probability. The teacher does not know whether a hand is in the image, so a hand
that is not may get a label if both views agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from htt import camera
from htt.batch import Batch, Layout
from htt.config import Config, PseudoConfig
from htt.info import UNKNOWN


@dataclass(frozen=True)
class Pseudo:
    """Pseudo-labels of a batch."""

    labels: Batch
    """The batch with pseudo-labels in its unlabelled windows, and without labels in the others."""
    weight: float
    """Weight of their loss terms, as a multiple of ``loss``."""


@torch.no_grad()
def pseudo_labels(
    batch: Batch,
    seen: Batch,
    teacher: nn.Module,
    config: Config,
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> tuple[Batch, Batch]:
    """Return the model's part of a batch, and the same with pseudo-labels; see ``Pseudo.labels``.

    Args:
        batch: batch of a ``TrainingLoader`` on the CPU, which gives the sizes without waiting for a GPU.
        seen: the same batch after its augmentation, on the device of the teacher.
        teacher: model in eval mode.
        config: complete configuration of the training.
        autocast: context of a forward pass.
    """
    others = int((~batch.labelled).sum()) // 3
    own, *views = seen.cut([len(batch.valid) - 2 * others, others, others], batch.valid.sum(dim=1).tolist())
    layout = Layout.of(batch.valid[-others:], config.model.pose.window).to(seen.valid.device)
    with autocast():
        predictions = [teacher(each.frames, each.valid, each.intrinsics, layout=layout) for each in views]
    frames, matrix = len(views[0].object), views[0].intrinsics.index_select(0, layout.window)[:, None]
    # The targets of unlabelled clips are 0, moved along with the image, so their differences undo the movements.
    moved = [own.joints_px[-frames:] - each.joints_px for each in views]
    joints_px = [each.joints_px.float() + by for each, by in zip(predictions, moved, strict=True)]
    depth_m = [each.depth_m.float() for each in predictions]
    joints_m = [camera.unproject(px, depth, matrix) for px, depth in zip(joints_px, depth_m, strict=True)]
    sure = 1000 * torch.linalg.vector_norm(joints_m[0] - joints_m[1], dim=-1) <= config.pseudo.agreement_mm
    labels = replace(
        own,
        joints_px=_last(own.joints_px, _mean(joints_px)),
        joints_m=_last(own.joints_m, _mean(joints_m)),
        joint_valid=_last(own.joint_valid, sure),
        object=_last(own.object, _sure_class([each.object_logits for each in predictions], config.pseudo), UNKNOWN),
        hand_type=None,
        ahead_valid=None,
        action=_last(own.action, _sure_class([each.action_logits for each in predictions], config.pseudo), UNKNOWN),
    )
    return own, labels


def weight(config: Config, step: int, steps: int) -> float:
    """Return the weight of pseudo-labels at a step, from 0, of all steps of the training."""
    rising = config.pseudo.ramp * steps
    return config.pseudo.weight * (min(step / rising, 1.0) if rising else 1.0)


def _sure_class(logits: list[Tensor], config: PseudoConfig) -> Tensor:
    """Return the most probable class of each row, or UNKNOWN if it is less probable than ``config.confidence``."""
    probability, label = _mean([each.float().softmax(dim=-1) for each in logits]).max(dim=-1)
    return label.where(probability >= config.confidence, UNKNOWN)


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean(dim=0)


def _last(values: Tensor, last: Tensor, fill: int = 0) -> Tensor:
    """Return a tensor like ``values`` with the last rows given, and ``fill`` before."""
    return torch.cat([torch.full_like(values[: len(values) - len(last)], fill), last.to(values.dtype)])
