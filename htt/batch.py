"""Batches and predictions, and the names of all tensor axes of the project.

Axes
    b  windows of clips in a batch        t  frames of a window, longest of the batch (at most model.action.length)
    n  valid frames of a batch            w  windows block P cuts a clip's frames into
    k  frames of such a window            j  joints (21 a hand, left hand first)
    d  width of the model                 a  actions
    o  objects                            f  width of a stored feature
    h w  height and width of an image, as the last two axes of frames

Padding is never stored as an image: ``frames`` holds only the valid frames, in order, and ``valid`` [b t] gives their
positions. Per-frame values are [n ...]; ``scatter`` and ``gather`` convert between [n ...] and [b t ...].
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float16, Int, UInt8
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some windows of clips, with their labels."""

    frames: UInt8[Tensor, "n 3 h w"] | Float16[Tensor, "n f"]
    """Images, or their stored features; [n 0] for a model without an image encoder."""
    valid: Bool[Tensor, "b t"]
    intrinsics: Float[Tensor, "b 3 3"]
    joints_m: Float[Tensor, "n j 3"]
    """Camera space, metres; arbitrary where not ``joint_valid``."""
    joints_px: Float[Tensor, "n j 2"]
    """Positions of the joints in ``frames``: their projection, moved along with an augmented image."""
    joint_valid: Bool[Tensor, "n j"]
    object: Int[Tensor, " n"]
    action: Int[Tensor, " b"]
    clip: Int[Tensor, " b"]
    """Index of the clip in its split."""
    frame: Int[Tensor, " n"]
    """Index of the frame in its clip."""
    view: Int[Tensor, " b"]
    """Seed of the augmented copy of the clip, the same whenever it is used; 0 for plain images."""

    @property
    def truth(self) -> Truth:
        """True hands and objects of the frames."""
        return Truth(self.joints_px, self.joints_m, self.joint_valid, self.object)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device."""
        moved = {field.name: getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)}
        return replace(self, **moved)


class Truth(NamedTuple):
    """True values of what the cues of block A predict, for ``model.action.given``."""

    joints_px: Float[Tensor, "n j 2"]
    joints_m: Float[Tensor, "n j 3"]
    joint_valid: Bool[Tensor, "n j"]
    object: Int[Tensor, " n"]


@dataclass(frozen=True)
class Prediction:
    """Output of the model for a batch; per-frame values only for valid frames.

    A model without an image encoder predicts actions alone: j and o are then 0.
    """

    joints_raw: Float[Tensor, "n j 3"]
    """Output of the pose head: x, y, depth, in its own units."""
    joints_px: Float[Tensor, "n j 2"]
    depth_m: Float[Tensor, "n j"]
    joints_m: Float[Tensor, "n j 3"]
    """Camera space, metres."""
    object_logits: Float[Tensor, "n o"]
    action_logits: Float[Tensor, "b a"]
    attention: dict[str, list[Tensor]] | None = None
    """On request: {"pose": one [b*w heads k k] per layer, "action": one [b heads 1+t 1+t] per layer}, token first."""

    @property
    def has_frames(self) -> bool:
        """True if hands and objects of frames are predicted."""
        return self.joints_raw.shape[1] > 0


def scatter(values: Tensor, valid: Bool[Tensor, "b t"]) -> Tensor:
    """Return [n ...] per-frame values as [b t ...], zero where not valid."""
    out = values.new_zeros((*valid.shape, *values.shape[1:]))
    out[valid] = values
    return out


def gather(values: Tensor, valid: Bool[Tensor, "b t"]) -> Tensor:
    """Return the valid frames' values of [b t ...] as [n ...]; the inverse of ``scatter``."""
    return values[valid]


def window_of_frame(valid: Bool[Tensor, "b t"]) -> Int[Tensor, " n"]:
    """Return the index into b of each valid frame's window."""
    return valid.nonzero()[:, 0]
