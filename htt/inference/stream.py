"""Predictions while frames arrive: hands and object of each frame at once, the action after each window of block P.

The encoder runs once per frame. Block P sees the features of the last t frames, which a ring buffer keeps, so the
newest frame has its hands without delay. When t frames are complete, their hands and cues are settled: they are those
of ``Predictor.__call__``, and block A reads the cues of the window so far. After T frames the window ends, with the
offline result, and the next one starts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from htt.data.loading.clips import as_frames
from htt.errors import DataError
from htt.fitting import Fit, Fitting, as_rgb, fitting
from htt.model.heads import FrameOutputs, decode_pose
from htt.model.htt import HTT
from htt.training.loop import Precision


@dataclass(frozen=True)
class Settled:
    """Final predictions for the frames of a finished window of block P, as of ``Predictor.__call__``."""

    first: int
    """Index of the first frame, counted from the start of the stream."""
    joints_px: np.ndarray
    """[k j 2], pixels of the given frames."""
    joints_m: np.ndarray
    """[k j 3], camera space, metres."""
    object_probabilities: np.ndarray
    """[k o]"""


@dataclass(frozen=True)
class Current:
    """Predictions after one frame of a stream."""

    frame: int
    """Index of the frame, from 0."""
    joints_px: np.ndarray
    """[j 2], pixels of the given frame."""
    joints_m: np.ndarray
    """[j 3], camera space, metres."""
    object_probabilities: np.ndarray
    """[o]"""
    action_probabilities: np.ndarray | None
    """[a] of the window so far, up to its last settled frame; until a window has one, those of the window before; None
    before the first settled frame of the stream."""
    settled: Settled | None
    """Final predictions, if this frame completed a window of block P."""
    window_ended: bool
    """True if this was the last frame of a window of block A: the action is then the offline result."""
    forecast_px: np.ndarray | None = None
    """[s j 2], the hands of the next s frames at ``Predictor.frame_rate``, in the pixels of those frames; as of
    ``Predictor.__call__``. None of a model without ``model.forecast``."""
    forecast_m: np.ndarray | None = None
    """[s j 3], camera space of those frames, metres; or None."""


class Stream:
    """Stream of frames of one camera: call it with each frame, ``Predictor.stream_rate`` frames a second."""

    def __init__(self, model: HTT, precision: Precision, intrinsics: np.ndarray, fit: Fit = "crop") -> None:
        """Take a model in eval mode on the device of ``precision``, and intrinsics [3 3] of the frames, px."""
        self._model, self._precision, self._intrinsics, self._fit = model, precision, intrinsics, fit
        self._length = model.config.action.length
        self._k = min(model.config.pose.window, self._length)
        self._fitting: Fitting | None = None
        self._matrix = torch.zeros(0)
        self._features: deque[Tensor] = deque(maxlen=self._k)
        self._cues: list[Tensor] = []
        self._action: np.ndarray | None = None
        self._context: Tensor | None = None
        """[a] probabilities of the action in finished windows of block P, for the forecast; None before the first."""
        self._frames = self._open = 0
        """Frames so far, and those of the unfinished window of block P."""

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray | Tensor) -> Current:
        """Return the predictions after one more frame: RGB [h w 3] or [3 h w], always of the same size.

        Raises:
            DataError: it is no frame, or has another size than the first.
        """
        image = self._image(frame)
        with self._precision.autocast():
            self._features.append(self._model.features(image)[0])
            position = self._frames % self._length
            self._frames += 1
            self._open += 1
            complete = self._open == self._k or position == self._length - 1
            if complete:
                settled = self._settle()
                pose = settled.joints_px[-1], settled.joints_m[-1], settled.object_probabilities[-1]
            else:
                settled = None
                joints_px, joints_m, objects, _ = self._heads(self._block_p(len(self._features))[-1:])
                pose = joints_px[0], joints_m[0], objects[0]
            forecast = self._forecast(position + 1)
        ended = position == self._length - 1
        if ended:
            self._context = None
        return Current(self._frames - 1, *pose, self._action, settled, ended, *forecast)

    @torch.inference_mode()
    def finish(self) -> Settled | None:
        """Settle the last frames of the stream, fewer than block P sees at once, and the action; None if all are."""
        if not self._open:
            return None
        with self._precision.autocast():
            return self._settle()

    @property
    def action_probabilities(self) -> np.ndarray | None:
        """[a] of the window so far; see ``Current``."""
        return self._action

    def _image(self, frame: np.ndarray | Tensor) -> Tensor:
        rgb = as_rgb(frame[None])[0]
        height, width = rgb.shape[:2]
        if self._fitting is None:
            info = self._model.info
            self._fitting = fitting((width, height), (info.width, info.height), self._fit)
            matrix = self._fitting.intrinsics(self._intrinsics).astype(np.float32)
            self._matrix = torch.from_numpy(matrix).to(self._precision.device)
        elif self._fitting.frame != (width, height):
            first = "x".join(map(str, self._fitting.frame))
            raise DataError(f"All frames of a stream must have one size; got {width}x{height} after {first}.")
        image = np.require(self._fitting.image(rgb), requirements="W")  # torch warns of arrays that are read-only
        return as_frames(image[None]).to(self._precision.device)

    def _block_p(self, last: int) -> Tensor:
        """Return the tokens [k d] of the last frames."""
        features = torch.stack([*self._features][-last:])[None]
        tokens: Tensor = self._model.pose_block(features, features.new_ones((1, last), dtype=torch.bool))[0]
        return tokens

    def _heads(self, tokens: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, FrameOutputs]:
        """Return pixels of the frame, points (m) and object probabilities of some tokens, and what block A needs."""
        raw, objects = self._model.pose_head(tokens), self._model.object_head(tokens)
        types = None if self._model.hand_type_head is None else self._model.hand_type_head(tokens)
        camera = self._matrix.expand(len(tokens), 3, 3)
        joints_px, _, joints_m = decode_pose(raw, camera, self._model.config.pose, self._model.info)
        assert self._fitting is not None
        px = self._fitting.frame_px(joints_px.cpu().numpy())
        return (
            px,
            joints_m.cpu().numpy(),
            objects.softmax(dim=-1).cpu().numpy(),
            FrameOutputs(tokens, raw, objects, types),
        )

    def _forecast(self, seen: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Return the hands of the next frames, px and m, after ``seen`` frames of the window of block A."""
        config = self._model.config.forecast
        if not config.frames or self._fitting is None:
            return None, None
        tokens = self._block_p(min(seen, self._k))[-1:]
        none = tokens.new_zeros(len(self._model.info.actions), dtype=torch.float32)
        context = none if self._context is None else self._context
        raw = self._model.forecast_head(tokens, self._model.pose_head(tokens), context[None] if config.action else None)
        found = self._model.decode_forecast(raw[:, 1:], self._matrix[None])
        return self._fitting.frame_px(found.joints_px[0].cpu().numpy()), found.joints_m[0].cpu().numpy()

    def _settle(self) -> Settled:
        """Finish a window of block P: its hands and objects, its cues, and the action of the window so far."""
        count, self._open = self._open, 0
        tokens = self._block_p(count)
        joints_px, joints_m, objects, outputs = self._heads(tokens)
        self._cues.append(self._model.action_input(outputs))
        cues = torch.cat(self._cues)[None]
        valid = cues.new_ones(cues.shape[:2], dtype=torch.bool)
        logits: Tensor = self._model.action_block(cues, valid, self._model.action_head)
        self._action = logits[0].double().softmax(dim=-1).cpu().numpy()
        if count == self._model.config.pose.window:
            self._context = logits[0].float().softmax(dim=-1)
        if cues.shape[1] == self._length:
            self._cues.clear()
        return Settled(self._frames - count, joints_px, joints_m, objects)
