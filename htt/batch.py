"""Batches and predictions, and the names of all tensor axes of the project.

Axes
    b  windows of clips in a batch        t  frames of a window, longest of the batch (at most model.action.length)
    n  valid frames of a batch            w  windows block P cuts a clip's frames into
    k  frames of such a window            j  joints (21 a hand, left hand first)
    d  width of the model                 a  actions
    o  objects                            f  width of a stored feature
    s  frames of a forecast: the frame itself, then those after it
    h w  height and width of an image, as the last two axes of frames

Padding is never stored as an image: ``frames`` holds only the valid frames, in order, and ``valid`` [b t] gives their
positions. Per-frame values are [n ...]; ``scatter`` and ``gather`` convert between [n ...] and [b t ...].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float16, Int, UInt8
from torch import Tensor

PER_WINDOW = ("valid", "intrinsics", "action", "clip", "view")
"""Fields of ``Batch`` with one entry per window; the others have one per frame."""


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
    hand_type: Int[Tensor, "n hands"] | None = None
    """What each hand does, as an index into ``DataInfo.hand_types``; None if the data do not name it."""
    ahead_m: Float[Tensor, "n s j 3"] | None = None
    """Joints of each frame and of those after it in its clip, each in the camera space of its own frame; None without
    ``model.forecast``."""
    ahead_px: Float[Tensor, "n s j 2"] | None = None
    """Their positions in the images of these frames, moved along like ``joints_px``."""
    ahead_valid: Bool[Tensor, "n s j"] | None = None
    """True where the clip has that frame, and the joint is valid there."""

    @property
    def truth(self) -> Truth:
        """True hands, objects and hand types of the frames."""
        return Truth(self.joints_px, self.joints_m, self.joint_valid, self.object, self.hand_type)

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields that this batch has, by name."""
        return {field.name: each for field in fields(self) if (each := getattr(self, field.name)) is not None}

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device; from pinned memory, the copy runs beside the computation."""
        return replace(self, **{name: each.to(device, non_blocking=True) for name, each in self.tensors().items()})

    def split(self, parts: int) -> list[Batch]:
        """Return the batch as at most so many batches of whole windows, in order."""
        if parts == 1:
            return [self]
        windows = torch.arange(len(self.valid)).tensor_split(min(parts, len(self.valid)))
        counts = self.valid.sum(dim=1).tolist()
        frames = [sum(counts[window] for window in part.tolist()) for part in windows]
        pieces = {
            name: torch.split(value, [len(part) for part in windows] if name in PER_WINDOW else frames)
            for name, value in self.tensors().items()
        }
        return [Batch(**{name: piece[index] for name, piece in pieces.items()}) for index in range(len(windows))]

    def first(self, counts: Int[Tensor, " b"]) -> Batch:
        """Return the batch with the first ``counts`` frames of each window, without windows that have none left."""
        counts = counts.to(self.valid.device)
        kept = (self.valid.cumsum(dim=1) <= counts[:, None])[self.valid].nonzero()[:, 0]
        rows = counts.nonzero()[:, 0]
        chosen = {
            name: each.index_select(0, rows if name in PER_WINDOW else kept) for name, each in self.tensors().items()
        }
        chosen["valid"] = torch.arange(int(counts.max()), device=counts.device) < counts[rows, None]
        return Batch(**chosen)

    def pin_memory(self) -> Batch:
        """Return the same batch in pinned memory, from which a GPU copies by itself."""
        return replace(self, **{name: each.pin_memory() for name, each in self.tensors().items()})


class Layout(NamedTuple):
    """Positions of the valid frames of a batch; computed on the CPU, so that no step waits for a GPU to find them."""

    slot: Int[Tensor, " n"]
    """Position of each valid frame in [b*t]."""
    window: Int[Tensor, " n"]
    """Index into b of its window."""
    pose_slot: Int[Tensor, " n"]
    """Its position in [w*k], the windows of block P that have a valid frame."""
    pose_valid: Bool[Tensor, "w k"]
    """Slots of these windows that have a valid frame."""
    counts: tuple[int, ...]
    """[b] number of valid frames."""

    @classmethod
    def of(cls, valid: Bool[Tensor, "b t"], pose_window: int) -> Layout:
        """Return the layout of a batch for windows of block P of ``pose_window`` frames; the last may be shorter."""
        k = min(pose_window, valid.shape[1])
        windows = F.pad(valid, (0, -valid.shape[1] % k)).reshape(-1, k)
        pose_valid = windows[windows.any(dim=1)]
        slot, pose_slot = (each.flatten().nonzero()[:, 0] for each in (valid, pose_valid))
        return cls(slot, slot // valid.shape[1], pose_slot, pose_valid, tuple(valid.sum(dim=1).tolist()))

    def to(self, device: torch.device | str) -> Layout:
        """Return the same layout on another device."""
        slot, window, pose_slot, pose_valid = (each.to(device, non_blocking=True) for each in self[:4])
        return Layout(slot, window, pose_slot, pose_valid, self.counts)


class Truth(NamedTuple):
    """True values of what the cues of block A predict, for ``model.action.given``."""

    joints_px: Float[Tensor, "n j 2"]
    joints_m: Float[Tensor, "n j 3"]
    joint_valid: Bool[Tensor, "n j"]
    object: Int[Tensor, " n"]
    hand_type: Int[Tensor, "n hands"] | None = None


class Forecast(NamedTuple):
    """Hands of each frame and of those after it, predicted from the frame and those before it.

    Step 0 is the frame itself, as it is seen without the frames after it. Each step is in the image and in the camera
    space of its own frame, whose camera may have moved.
    """

    joints_px: Float[Tensor, "n s j 2"]
    depth_m: Float[Tensor, "n s j"]
    joints_m: Float[Tensor, "n s j 3"]
    """Camera space, metres."""


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
    hand_type_logits: Float[Tensor, "n hands types"] | None = None
    """None if the model has no head for hand types."""
    forecast: Forecast | None = None
    """None without ``model.forecast``."""

    @property
    def has_frames(self) -> bool:
        """True if hands and objects of frames are predicted."""
        return self.joints_raw.shape[1] > 0


def place(values: Tensor, slot: Int[Tensor, " n"], shape: Sequence[int]) -> Tensor:
    """Return [n ...] per-frame values as [*shape ...] with each at its slot of the flattened shape, zero elsewhere."""
    out = values.new_zeros((math.prod(shape), *values.shape[1:]))
    return out.index_copy_(0, slot, values).reshape(*shape, *values.shape[1:])


def take(values: Tensor, slot: Int[Tensor, " n"]) -> Tensor:
    """Return [n ...] the values at the slots of [b t ...]; the inverse of ``place``."""
    return values.flatten(0, 1).index_select(0, slot)


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
