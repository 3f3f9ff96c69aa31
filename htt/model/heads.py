"""Heads on a frame's token: hands, object, and the input of block A."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from htt import camera
from htt.batch import Truth
from htt.config import ActionConfig, ForecastConfig, ModelConfig, PoseConfig
from htt.errors import ConfigError
from htt.info import UNKNOWN, DataInfo

LEAK = 0.01
"""Negative slope of the pose head's activation. Source: released code."""


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
    focal_x = intrinsics[:, 0, 0, None]
    depth_m = config.depth_offset_m + focal_x * config.depth_scale_m * raw[..., 2]
    joints_m = camera.unproject(joints_px, depth_m, BACK_PROJECTIONS[config.back_projection](intrinsics)[:, None])
    return joints_px, depth_m, joints_m


def encode_pose(
    joints_px: Float[Tensor, "n j 2"],
    depth_m: Float[Tensor, "n j"],
    intrinsics: Float[Tensor, "n 3 3"],
    config: PoseConfig,
    info: DataInfo,
) -> Float[Tensor, "n j 3"]:
    """Return the output of the pose head that ``decode_pose`` converts to these pixels and depths."""
    centre = joints_px.new_tensor([info.width / 2, info.height / 2])
    depth = (depth_m - config.depth_offset_m) / (intrinsics[:, 0, 0, None] * config.depth_scale_m)
    return torch.cat([(joints_px - centre) / config.pixel_scale, depth[..., None]], dim=-1)


def with_truth(
    joints_raw: Float[Tensor, "n j 3"],
    object_logits: Float[Tensor, "n o"],
    truth: Truth | None,
    intrinsics: Float[Tensor, "n 3 3"],
    config: ModelConfig,
    info: DataInfo,
) -> tuple[Float[Tensor, "n j 3"], Float[Tensor, "n o"]]:
    """Return joints and object logits with the true values of ``model.action.given``, for block A.

    A joint that is not valid and an object without a label keep their prediction; of a model without heads they are 0.

    Raises:
        ConfigError: If values are given but there is no truth.
    """
    given = config.action.given
    if given and truth is None:
        raise ConfigError(
            f"model.action.given is {', '.join(given)}: the model needs the labels of its frames, and there are none. "
            "Use labelled clips, or a model trained with model.action.given=[]."
        )
    if not joints_raw.shape[1]:  # a model without heads: all its cues are given
        joints_raw = joints_raw.new_zeros(len(joints_raw), info.joints, 3)
        object_logits = object_logits.new_zeros(len(object_logits), len(info.objects))
    if truth is not None and "hands" in given:
        true_joints = encode_pose(truth.joints_px, truth.joints_m[..., 2], intrinsics, config.pose, info)
        joints_raw = torch.where(truth.joint_valid[..., None], true_joints, joints_raw)
    if truth is not None and "object" in given:
        labelled = truth.object != UNKNOWN
        certain = F.one_hot(truth.object.where(labelled, 0), object_logits.shape[-1]).to(object_logits.dtype).log()
        object_logits = torch.where(labelled[:, None], certain, object_logits)  # softmax is exactly 0 or 1
    return joints_raw, object_logits


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

    def forward(self, tokens: Tensor, joints_raw: Float[Tensor, "n j 3"], object_logits: Tensor) -> Tensor:
        """Return the embedded joints [n d]."""
        del tokens, object_logits
        cue: Tensor = self.embed(joints_raw[..., : self.coordinates].flatten(1))
        return cue


class ObjectCue(nn.Module):
    """Linear embedding of the object's probabilities."""

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        del config
        self.embed = nn.Linear(len(info.objects), width)

    def forward(self, tokens: Tensor, joints_raw: Tensor, object_logits: Float[Tensor, "n o"]) -> Tensor:
        """Return the embedded probabilities [n d]."""
        del tokens, joints_raw
        cue: Tensor = self.embed(object_logits.softmax(dim=-1))
        return cue


class FeatureCue(nn.Module):
    """Block P's output, unchanged."""

    def __init__(self, width: int, config: ActionConfig, info: DataInfo) -> None:
        super().__init__()
        del width, config, info

    def forward(self, tokens: Float[Tensor, "n d"], joints_raw: Tensor, object_logits: Tensor) -> Tensor:
        """Return the tokens [n d]."""
        del joints_raw, object_logits
        return tokens


CUES: dict[str, type[nn.Module]] = {"feature": FeatureCue, "hands": HandsCue, "object": ObjectCue}
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

    def forward(
        self, tokens: Float[Tensor, "n d"], joints_raw: Float[Tensor, "n j 3"], object_logits: Float[Tensor, "n o"]
    ) -> Float[Tensor, "n d"]:
        """Return one token per frame."""
        cues = [cue(tokens, joints_raw, object_logits) for cue in self.cues.values()]
        joined: Tensor = self.join(torch.cat(cues, dim=-1))
        return joined
