"""What passes between the data and the model, and the legend of every axis in the project.

Axes
    b  windows of clips in a batch        t  frames of a window, longest of the batch (at most model.action.length)
    n  valid frames of a batch            w  windows block P cuts a clip's frames into
    k  frames of such a window            j  joints (21 a hand, left hand first)
    d  width of the model                 a  actions
    o  objects                            h w  height and width of an image, as the last two axes of frames

Padding never exists as an image: ``frames`` holds the valid frames alone, in order, and ``valid`` [b t] says where each
belongs. Everything per frame is [n ...]; ``scatter`` and ``gather`` lead from one form to the other.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some windows of clips, with everything known about them."""

    frames: UInt8[Tensor, "n 3 h w"]
    valid: Bool[Tensor, "b t"]
    intrinsics: Float[Tensor, "b 3 3"]
    joints_m: Float[Tensor, "n j 3"]
    """Camera space, metres; anything where not ``joint_valid``."""
    joints_px: Float[Tensor, "n j 2"]
    """Where the joints are in ``frames``: their projection, moved along with an augmented image."""
    joint_valid: Bool[Tensor, "n j"]
    object: Int[Tensor, " n"]
    action: Int[Tensor, " b"]
    clip: Int[Tensor, " b"]
    """Index of the clip in its split."""
    frame: Int[Tensor, " n"]
    """Index of the frame in its clip."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return replace(self, **moved)


@dataclass(frozen=True)
class Prediction:
    """What the model says about a batch; per-frame values for its valid frames alone."""

    joints_raw: Float[Tensor, "n j 3"]
    """Output of the pose head: x, y, depth, in its own units."""
    joints_px: Float[Tensor, "n j 2"]
    depth_m: Float[Tensor, "n j"]
    joints_m: Float[Tensor, "n j 3"]
    """Camera space, metres."""
    object_logits: Float[Tensor, "n o"]
    action_logits: Float[Tensor, "b a"]
    attention: dict[str, list[Tensor]] | None = None
    """On request: {"pose": one [b*w heads k k] a layer, "action": one [b heads 1+t 1+t] a layer}, token first."""


def scatter(values: Tensor, valid: Bool[Tensor, "b t"]) -> Tensor:
    """[n ...] per-frame values into [b t ...], zero where not valid."""
    out = values.new_zeros((*valid.shape, *values.shape[1:]))
    out[valid] = values
    return out


def gather(values: Tensor, valid: Bool[Tensor, "b t"]) -> Tensor:
    """[b t ...] values of the valid frames, as [n ...]; undoes ``scatter``."""
    return values[valid]


def window_of_frame(valid: Bool[Tensor, "b t"]) -> Int[Tensor, " n"]:
    """For each valid frame, the index into b of the window it belongs to."""
    return valid.nonzero()[:, 0]
