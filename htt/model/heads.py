"""Heads on a frame's token: hands, object, and the input of block A."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from htt import camera
from htt.batch import Truth
from htt.config import ActionConfig, ForecastConfig, ModelConfig, PoseConfig
from htt.errors import ConfigError
from htt.info import UNKNOWN, DataInfo

LEAK = 0.01
"""Negative slope of the pose head's activation. Source: released code."""
NO_HAND_TYPES = (
    "model.action.cues has hand_type, but the data do not name hand types. Use data that do, such as the rendered "
    "benchmark, or leave hand_type out of the cues."
)


class FrameOutputs(NamedTuple):
    """Outputs for each frame that the cues of block A read."""

    tokens: Float[Tensor, "n d"]
    """Output of block P."""
    joints_raw: Float[Tensor, "n j 3"]
    object_logits: Float[Tensor, "n o"]
    hand_type_logits: Float[Tensor, "n hands types"] | None
    """None if the model has no head for hand types."""


class PoseHead(nn.Module):
    """Three layers from a token to x, y and depth of every joint, in the head's own units (see ``decode_pose``).

    Source: HTT (Wen et al. 2023), section 3.2.
    """

    def __init__(self, width: int, joints: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width),
            nn.LeakyReLU(LEAK),
            nn.Linear(width, width),
            nn.LeakyReLU(LEAK),
            nn.Linear(width, 3 * joints),
        )

    def forward(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n j 3"]:
        """Return the raw joints as float32, because half precision would cost a pixel of accuracy."""
        raw: Tensor = rearrange(self.layers(tokens), "n (j three) -> n j three", three=3)
        return raw.float()


class ForecastHead(nn.Module):
    """Displacements of the hands until each of the next frames, added to the hands of the frame itself.

    The displacements start at 0, so an untrained head keeps the last pose, which is a baseline that is hard to beat.
    They are those of the raw joints: 2.5D, in the units of the pose head.

    Source: Martinez et al. 2017 (arXiv 1705.02445), who predict displacements and compare them with the last pose.
    """

    def __init__(self, width: int, config: ForecastConfig, info: DataInfo) -> None:
        super().__init__()
        self.action = nn.Linear(len(info.actions), width, bias=False) if config.action else None
        self.displace = PoseHead(width, config.frames * info.joints)
        for parameter in self.displace.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, tokens: Float[Tensor, "n d"], joints_raw: Float[Tensor, "n j 3"], action: Float[Tensor, "n a"] | None
    ) -> Float[Tensor, "n s j 3"]:
        """Return the raw joints of each frame and of those after it.

        Args:
            tokens: tokens of the frames, from these and earlier frames alone.
            joints_raw: output of the pose head for these tokens. The errors of later frames do not train it.
            action: probabilities of the action so far, 0 where none is known; only with ``model.forecast.action``.
        """
        if self.action is not None:
            tokens = tokens + self.action(action)
        moved = rearrange(self.displace(tokens), "n (s j) three -> n s j three", j=joints_raw.shape[1])
        now = joints_raw[:, None]
        return torch.cat([now, now.detach() + moved], dim=1)


class ObjectHead(nn.Module):
    """Two linear layers from a token to the object's logits, without an activation between them.

    Source: HTT (Wen et al. 2023), section 3.2, as released.
    """

    def __init__(self, width: int, objects: int) -> None:
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.classify = nn.Linear(width, objects)

    def forward(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n o"]:
        """Return the logits as float32."""
        logits: Tensor = self.classify(self.embed(tokens))
        return logits.float()


class HandTypeHead(ObjectHead):
    """Object head for what each hand does instead of the object: the head of the cue hand_type."""

    def __init__(self, width: int, info: DataInfo) -> None:
        super().__init__(width, info.hands * len(info.hand_types))
        self.hands = info.hands

    def forward(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n hands types"]:
        """Return the logits as float32."""
        logits: Tensor = rearrange(super().forward(tokens), "n (hands types) -> n hands types", hands=self.hands)
        return logits


class NoHead(nn.Module):
    """Absent head of a model without an image encoder: its output has no values."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n ..."]:
        """Return an empty tensor [n ...] of the shape of a frame's output."""
        return tokens.new_zeros(len(tokens), *self.shape)


def decode_pose(
    raw: Float[Tensor, "n j 3"], intrinsics: Float[Tensor, "n 3 3"], config: PoseConfig, info: DataInfo
) -> tuple[Float[Tensor, "n j 2"], Float[Tensor, "n j"], Float[Tensor, "n j 3"]]:
    """Convert the pose head's output to pixels, depth (m) and points in camera space (m).

    Source: HTT (Wen et al. 2023), section 3.2, with the constants and the focal length along y of the released code.
    """
    centre = torch.tensor([info.width / 2, info.height / 2], dtype=raw.dtype).to(raw.device, non_blocking=True)
    joints_px = config.pixel_scale * raw[..., :2] + centre
    focal_px, ratio = _focal_and_ratio(intrinsics, config, info)
    depth_m = ratio * (config.depth_offset_m + focal_px * config.depth_scale_m * raw[..., 2])
    joints_m = camera.unproject(joints_px, depth_m, BACK_PROJECTIONS[config.back_projection](intrinsics)[:, None])
    return joints_px, depth_m, joints_m


def _focal_and_ratio(
    intrinsics: Float[Tensor, "n 3 3"], config: PoseConfig, info: DataInfo
) -> tuple[Float[Tensor, "n 1"] | float, Float[Tensor, "n 1"] | float]:
    """Return the focal length (px) that ``depth_scale_m`` refers to, and the true depth per predicted depth.

    A hand of size s at depth z is f s / z pixels large, so an image alone shows z / f. A camera of focal length f_v
    shows the same hand in the same size at the depth z f_v / f: that is what a head can predict without knowing f.

    Source: the virtual depth of Omni3D (Brazil et al. 2023, arXiv 2207.10660).
    """
    focal_px = intrinsics[:, 0, 0, None]
    if config.joint_depth == "released":
        return focal_px, 1.0
    virtual_px = config.virtual_focal * info.width
    return virtual_px, focal_px / virtual_px


def encode_pose(
    joints_px: Float[Tensor, "n j 2"],
    depth_m: Float[Tensor, "n j"],
    intrinsics: Float[Tensor, "n 3 3"],
    config: PoseConfig,
    info: DataInfo,
) -> Float[Tensor, "n j 3"]:
    """Return the output of the pose head that ``decode_pose`` converts to these pixels and depths."""
    centre = joints_px.new_tensor([info.width / 2, info.height / 2])
    focal_px, ratio = _focal_and_ratio(intrinsics, config, info)
    depth = (depth_m / ratio - config.depth_offset_m) / (focal_px * config.depth_scale_m)
    return torch.cat([(joints_px - centre) / config.pixel_scale, depth[..., None]], dim=-1)


def with_truth(
    outputs: FrameOutputs,
    truth: Truth | None,
    intrinsics: Float[Tensor, "n 3 3"],
    config: ModelConfig,
    info: DataInfo,
) -> FrameOutputs:
    """Return the outputs with the true values of ``model.action.given``, for block A.

    A joint that is not valid, and an object or a hand type without a label, keep their prediction; of a model without
    heads they are 0.

    Raises:
        ConfigError: If values are given but there is no truth.
    """
    given = config.action.given
    if given and truth is None:
        raise ConfigError(
            f"model.action.given is {', '.join(given)}: the model needs the labels of its frames, and there are none. "
            "Use labelled clips, or a model trained with model.action.given=[]."
        )
    _, joints_raw, object_logits, type_logits = outputs
    if not joints_raw.shape[1]:  # a model without heads: all its cues are given
        joints_raw = joints_raw.new_zeros(len(joints_raw), info.joints, 3)
        object_logits = object_logits.new_zeros(len(object_logits), len(info.objects))
        if "hand_type" in given:
            type_logits = object_logits.new_zeros(len(object_logits), info.hands, len(info.hand_types))
    if truth is not None and "hands" in given:
        true_joints = encode_pose(truth.joints_px, truth.joints_m[..., 2], intrinsics, config.pose, info)
        joints_raw = torch.where(truth.joint_valid[..., None], true_joints, joints_raw)
    if truth is not None and "object" in given:
        object_logits = _certain(object_logits, truth.object)
    if truth is not None and truth.hand_type is not None and type_logits is not None and "hand_type" in given:
        type_logits = _certain(type_logits, truth.hand_type)
    return FrameOutputs(outputs.tokens, joints_raw, object_logits, type_logits)


def _certain(logits: Float[Tensor, "*n classes"], labels: Int[Tensor, "*n"]) -> Float[Tensor, "*n classes"]:
    """Return logits whose softmax is exactly 0 or 1 where there is a label, and the given ones elsewhere."""
    labelled = labels != UNKNOWN
    certain = F.one_hot(labels.where(labelled, 0), logits.shape[-1]).to(logits.dtype).log()
    return torch.where(labelled[..., None], certain, logits)


def _both(intrinsics: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
    """Return the intrinsics unchanged: each axis has its own focal length."""
    return intrinsics


def _focal_x(intrinsics: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
    """Return the intrinsics with the focal length along x for both axes, as in the released code."""
    matrix = intrinsics.clone()
    matrix[:, 1, 1] = matrix[:, 0, 0]
    return matrix


BACK_PROJECTIONS = {"focal_x": _focal_x, "both": _both}
"""``model.pose.back_projection`` -> function that returns the intrinsics for back-projection."""


class HandsCue(nn.Module):
    """Linear embedding of a frame's raw joints: x and y, or x, y and depth."""

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        self.coordinates = {"2d": 2, "3d": 3}[config.hands]
        self.embed = nn.Linear(self.coordinates * info.joints, width)

    def forward(self, outputs: FrameOutputs) -> Tensor:
        """Return the embedded joints [n d]."""
        cue: Tensor = self.embed(outputs.joints_raw[..., : self.coordinates].flatten(1))
        return cue


class ObjectCue(nn.Module):
    """Linear embedding of the object's probabilities."""

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        del config
        self.embed = nn.Linear(len(info.objects), width)

    def forward(self, outputs: FrameOutputs) -> Tensor:
        """Return the embedded probabilities [n d]."""
        cue: Tensor = self.embed(outputs.object_logits.softmax(dim=-1))
        return cue


class HandTypeCue(nn.Module):
    """Linear embedding of the probabilities of each hand's type."""

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        del config
        self.embed = nn.Linear(info.hands * len(info.hand_types), width)

    def forward(self, outputs: FrameOutputs) -> Tensor:
        """Return the embedded probabilities [n d]."""
        assert outputs.hand_type_logits is not None  # the model has the cue, so it has the head or is given the types
        cue: Tensor = self.embed(outputs.hand_type_logits.softmax(dim=-1).flatten(1))
        return cue


class FeatureCue(nn.Module):
    """Block P's output, unchanged."""

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        del width, config, info

    def forward(self, outputs: FrameOutputs) -> Tensor:
        """Return the tokens [n d]."""
        return outputs.tokens


CUES: dict[str, type[nn.Module]] = {
    "feature": FeatureCue,
    "hands": HandsCue,
    "object": ObjectCue,
    "hand_type": HandTypeCue,
}
"""Cues by name, in the order of concatenation, which does not depend on the order in a configuration."""


class ActionInput(nn.Module):
    """Input of block A for a frame: the configured cues, concatenated and projected to the model's width.

    Source: HTT (Wen et al. 2023), section 3.3.
    """

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        chosen = [name for name in CUES if name in config.cues]
        self.cues = nn.ModuleDict({name: CUES[name](width, config, info) for name in chosen})
        self.join = nn.Linear(len(chosen) * width, width)

    def forward(self, outputs: FrameOutputs) -> Float[Tensor, "n d"]:
        """Return one token per frame."""
        cues = [cue(outputs) for cue in self.cues.values()]
        joined: Tensor = self.join(torch.cat(cues, dim=-1))
        return joined
