"""HTT, as in the paper's figure: frames -> block P over short windows -> hands and object -> block A -> action.

Source: Wen et al., "Hierarchical Temporal Transformer for 3D Hand Pose Estimation and Action Recognition from
Egocentric RGB Videos", CVPR 2023. Each part is configured by a field of ``htt.config.ModelConfig``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from htt.batch import Forecast, Layout, Prediction, Truth, place, scatter, take
from htt.config import ModelConfig
from htt.errors import ConfigError
from htt.info import DataInfo
from htt.model import blocks
from htt.model.features import FrameFeatures
from htt.model.heads import (
    NO_HAND_TYPES,
    ActionInput,
    ForecastHead,
    FrameOutputs,
    HandTypeHead,
    NoHead,
    ObjectHead,
    PoseHead,
    decode_pose,
    with_truth,
)
from htt.registry import load


class HTT(nn.Module):
    """Network that predicts hands and object of each frame, and the action of each window of a clip.

    Padding changes no result and costs no computation in the encoder: only valid frames have an image, both blocks
    ignore frames that are not valid, and windows of block P without a valid frame are skipped.

    Without an image encoder (``model.backbone.name`` none) it is block A alone: features and predictions of frames have
    no values, and the cues are given.

    Raises:
        ConfigError: If the backbone or a block does not exist or cannot have the configured size, or the data do not
            name the hand types that block A is to see.
        CheckpointError: If the weights of the backbone cannot be loaded or belong to another network.
    """

    def __init__(self, config: ModelConfig, info: DataInfo, encoder: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        if "hand_type" in config.action.cues and not info.hand_types:
            raise ConfigError(NO_HAND_TYPES)
        width = config.width
        self.config, self.info = config, info
        self.features = FrameFeatures(config.backbone, width, encoder)
        self.pose_block = load(blocks, config.pose.block).build(width, config.pose)
        sees = config.backbone.reads_images
        self.pose_head = PoseHead(width, info.joints) if sees else NoHead(0, 3)
        self.object_head = ObjectHead(width, len(info.objects)) if sees else NoHead(0)
        self.hand_type_head = HandTypeHead(width, info) if config.predicts_hand_types else None
        self.action_input = ActionInput(width, config.action, info)
        self.action_block = load(blocks, config.action.block).readout(width, config.action)
        self.action_head = nn.Linear(width, len(info.actions))
        if config.forecast.frames:  # last, so that the other parts start with the same weights as without it
            self.forecast_head = ForecastHead(width, config.forecast, info)

    @classmethod
    def without_weights(cls, config: ModelConfig, info: DataInfo, encoder: Mapping[str, Any] | None = None) -> HTT:
        """Return the model with random weights, for a caller that loads all weights or needs none.

        Args:
            config: Configuration of the model.
            info: Facts of its data.
            encoder: ``FrameFeatures.settings`` of the same encoder, or None to ask the hub for those of a hub model.
        """
        backbone = config.backbone.model_copy(update={"weights": "random"})
        return cls(config.model_copy(update={"backbone": backbone}), info, encoder)

    def forward(
        self,
        frames: Shaped[Tensor, "n ..."],
        valid: Bool[Tensor, "b t"],
        intrinsics: Float[Tensor, "b 3 3"],
        attention: bool = False,
        truth: Truth | None = None,
        layout: Layout | None = None,
    ) -> Prediction:
        """Return the predictions for the valid frames of a batch.

        Args:
            frames: The valid frames in order: images [n 3 h w] as uint8 or as floats in [0, 1], or their features
                [n f], which a frozen encoder computed earlier.
            valid: Frame slots of each window that have an image.
            intrinsics: Camera matrix of each window, px.
            attention: Whether to return the attention weights of both blocks.
            truth: Labels of the frames, which only ``model.action.given`` needs.
            layout: Positions of the frames for ``model.pose.window``, or None to derive them from ``valid``, for which
                a GPU makes the CPU wait.
        """
        seen: dict[str, list[Tensor]] = {"pose": [], "action": []} if attention else {}
        layout = layout or Layout.of(valid, self.config.pose.window)

        features = self.features(frames)
        tokens = self._block_p(features, valid, layout, seen.get("pose"))

        joints_raw = self.pose_head(tokens)
        camera = intrinsics.index_select(0, layout.window)
        joints_px, depth_m, joints_m = decode_pose(joints_raw, camera, self.config.pose, self.info)
        object_logits = self.object_head(tokens)
        type_logits = None if self.hand_type_head is None else self.hand_type_head(tokens)

        outputs = FrameOutputs(tokens, joints_raw, object_logits, type_logits)
        cues = self.action_input(with_truth(outputs, truth, camera, self.config, self.info))
        clips = place(cues, layout.slot, valid.shape)
        action_logits = self.action_block(clips, valid, self.action_head, seen.get("action"))

        forecast = self._forecast(features, clips, valid, layout, camera) if self.config.forecast.frames else None
        of_frames = joints_raw, joints_px, depth_m, joints_m, object_logits
        return Prediction(*of_frames, action_logits.float(), seen or None, type_logits, forecast)

    def _block_p(
        self, features: Float[Tensor, "n d"], valid: Bool[Tensor, "b t"], layout: Layout, attention: list[Tensor] | None
    ) -> Float[Tensor, "n d"]:
        """Apply block P to windows of k frames; windows without a valid frame are skipped."""
        windows = layout.pose_valid
        tokens = self.pose_block(place(features, layout.pose_slot, windows.shape), windows, attention)
        if attention is not None:
            k = windows.shape[1]
            some = F.pad(valid, (0, -valid.shape[1] % k)).reshape(-1, k).any(dim=1)
            attention[:] = [scatter(weights, some) for weights in attention]
        return take(tokens, layout.pose_slot)

    def _forecast(
        self,
        features: Float[Tensor, "n d"],
        clips: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        layout: Layout,
        camera: Float[Tensor, "n 3 3"],
    ) -> Forecast:
        """Return the hands of each frame and of those after it, from what was seen until the frame.

        The token of a frame in a window of block P depends on the frames after it. Here block P sees, for each frame,
        the k frames that end with it, as in a stream. Block A sees the windows of block P that have ended by then.
        """
        tokens = self._tokens_so_far(features, valid, layout)
        action = self._action_so_far(clips, valid, layout) if self.config.forecast.action else None
        raw = self.forecast_head(tokens, self.pose_head(tokens), action)
        return self.decode_forecast(raw, camera)

    def decode_forecast(self, raw: Float[Tensor, "n s j 3"], camera: Float[Tensor, "n 3 3"]) -> Forecast:
        """Return the forecast of raw joints; ``camera`` is the camera matrix of each frame, px."""
        decoded = decode_pose(raw.flatten(1, 2), camera, self.config.pose, self.info)
        return Forecast(*(each.reshape(*raw.shape[:3], *each.shape[2:]) for each in decoded))

    def _tokens_so_far(
        self, features: Float[Tensor, "n d"], valid: Bool[Tensor, "b t"], layout: Layout
    ) -> Float[Tensor, "n d"]:
        """Return the token of each frame from a window of block P that ends with it."""
        length = valid.shape[1]
        k = min(self.config.pose.window, length)
        place_in_clip = layout.slot % length
        first = (place_in_clip - k + 1).clamp(min=0)
        seen = first[:, None] + torch.arange(k, device=valid.device)
        slots = layout.window[:, None] * length + seen.clamp(max=length - 1)
        known = valid.flatten()[slots] & (seen <= place_in_clip[:, None])
        of_slot = place(features, layout.slot, valid.shape).flatten(0, 1)
        tokens: Tensor = self.pose_block(of_slot[slots], known, None)
        return tokens[torch.arange(len(tokens), device=valid.device), place_in_clip - first]

    @torch.no_grad()
    def _action_so_far(
        self, clips: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], layout: Layout
    ) -> Float[Tensor, "n a"]:
        """Return the probabilities of the action in windows of block P that ended by each frame; 0 before the first.

        They have no gradient: the forecast uses what block A recognises, and does not change it.
        """
        length, k = valid.shape[1], self.config.pose.window
        found = [clips.new_zeros(len(clips), len(self.info.actions), dtype=torch.float32)]
        for end in range(k, length + 1, k):
            logits = self.action_block(clips[:, :end], valid[:, :end], self.action_head, None)
            found.append(logits.float().softmax(dim=-1))
        ended = (layout.slot % length + 1) // k
        return torch.stack(found)[ended, layout.window]
