"""A trained model, applied to frames of any size: hands and objects of every frame, actions of every window.

Frames are fitted to the model's image size (``fitting``), cut into windows and batched exactly as by
``htt.evaluate``, so frames of a data set get the same numbers here as there, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from htt.batch import Prediction
from htt.config import Config
from htt.data.loading.clips import as_frames
from htt.data.loading.loader import evaluation_groups
from htt.data.loading.windows import evaluation_windows
from htt.errors import CheckpointError, ConfigError
from htt.fitting import Fit, Fitting, as_rgb, checked_intrinsics, fitting
from htt.group import best_device
from htt.inference.published import checkpoint_folder
from htt.inference.stream import Stream
from htt.info import DataInfo
from htt.model.htt import HTT
from htt.training import checkpoint as checkpoints
from htt.training.loop import Precision


@dataclass(frozen=True)
class Predictions:
    """Predictions for the frames of one clip or video."""

    joints_px: np.ndarray
    """[n j 2] float32, pixels of the given frames; joints as in ``htt.hand``, left hand first."""
    joints_m: np.ndarray
    """[n j 3] float32, camera space, metres."""
    object_probabilities: np.ndarray
    """[n o] float32."""
    action_probabilities: np.ndarray
    """[w a] float64, of each window."""
    window: np.ndarray
    """[n] index into ``action_probabilities`` of each frame's window."""
    info: DataInfo
    """Names of actions and objects, and number of hands, of the model."""
    forecast_px: np.ndarray | None = None
    """[n s j 2] float32, the hands of the s frames after each frame, in the pixels of those frames, whose camera may
    have moved; ``info.frame_rate`` of them are a second. They depend on no frame after the one they are of. None of a
    model without ``model.forecast``."""
    forecast_m: np.ndarray | None = None
    """[n s j 3] float32, camera space of those frames, metres; or None."""

    def top_actions(self, count: int = 3, windows: slice | np.ndarray = slice(None)) -> list[tuple[str, float]]:
        """Return the most probable actions with their mean probability over (some) windows, highest first."""
        mean = self.action_probabilities[windows].mean(axis=0)
        return [(self.info.actions[action], float(mean[action])) for action in np.argsort(-mean, kind="stable")[:count]]

    def objects(self) -> list[tuple[str, float]]:
        """Return the most probable object of each frame, with its probability."""
        best = self.object_probabilities.argmax(axis=1)
        values = self.object_probabilities[np.arange(len(best)), best]
        return [(self.info.objects[name], value) for name, value in zip(best.tolist(), values.tolist(), strict=True)]


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Return the predictions of successive parts of a video as one."""
    firsts = np.cumsum([0, *(len(part.action_probabilities) for part in parts[:-1])])
    arrays = ["joints_px", "joints_m", "object_probabilities", "action_probabilities"]
    arrays += [name for name in ("forecast_px", "forecast_m") if getattr(parts[0], name) is not None]
    return Predictions(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays},
        window=np.concatenate([part.window + first for part, first in zip(parts, firsts, strict=True)]),
        info=parts[0].info,
    )


class Predictor:
    """Trained model in eval mode, with the configuration that says how clips are cut into windows."""

    def __init__(
        self, model: HTT, config: Config, device: torch.device | str | None = None, precision: str | None = None
    ) -> None:
        """Take a model over: move it to its device and cast its weights; see ``load``."""
        if not model.config.backbone.reads_images:
            raise CheckpointError(
                "Cannot predict with this model: it has no image encoder (model.backbone.name none) and reads no "
                "images. Use a model that was trained on images."
            )
        if given := model.config.action.given:
            raise CheckpointError(
                f"Cannot predict with this model: its block A is given the true {' and '.join(given)} "
                "(model.action.given), which frames without labels do not have. Train with model.action.given=[]."
            )
        self.device = torch.device(device) if device is not None else best_device()
        self.model, self.config, self.info = model.to(self.device).eval(), config, model.info
        try:
            self.precision = Precision(precision or config.train.precision, self.device)
        except ConfigError as error:
            raise ConfigError(
                f"{error} Choose another precision than that of the training: --precision fp32."
            ) from error
        if self.precision.dtype is not None:
            cast_weights(model, self.precision.dtype)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: torch.device | str | None = None,
        precision: str | None = None,
        fuse: bool = False,
    ) -> Predictor:
        """Load a trained model.

        Args:
            source: folder of a checkpoint, or one that ``python -m htt.publish`` wrote, or the hub name of the latter.
            device: device of the computation, or None for a GPU if there is one.
            precision: fp32, bf16 or fp16, or None for that of the training.
            fuse: whether to fold batch norm into the convolutions before it: faster, and equal up to rounding.

        Raises:
            CheckpointError: there is no such model, it is damaged, or it needs labels (``model.action.given``).
            ConfigError: the device does not support the precision.
        """
        model, record = checkpoints.load(checkpoint_folder(source))
        if fuse:
            fuse_batch_norm(model)
        return cls(model, record.config, device, precision)

    @property
    def frame_rate(self) -> float:
        """Frames per second that the model expects; that of its training data."""
        return self.info.frame_rate

    @property
    def stream_rate(self) -> float:
        """Frames per second within a window, which a stream expects: every ``data.spacing``-th frame."""
        return self.info.frame_rate / self.config.data.spacing

    @property
    def chunk(self) -> int:
        """Frames after which windows start anew, so that chunks can be predicted one by one."""
        return self.config.model.action.length * self.config.data.spacing

    def __call__(
        self, frames: np.ndarray | Tensor | Sequence[np.ndarray], intrinsics: Any, fit: Fit = "crop"
    ) -> Predictions:
        """Return the predictions for the frames of one clip, in order, at ``frame_rate``.

        Args:
            frames: RGB frames of one size, uint8 or floats in [0, 1]: [n h w 3] or [n 3 h w], or a list of [h w 3].
            intrinsics: camera matrix [3 3] of the frames, px; depths depend on its focal length.
            fit: treatment of frames with another aspect ratio than the model's images.

        Raises:
            DataError: these are no frames.
            ConfigError: the intrinsics are no camera matrix.
        """
        given = as_rgb(frames)
        fitted = self.fitting(given.shape[2], given.shape[1], fit)
        images = given if fitted.identical else np.stack([fitted.image(frame) for frame in given])
        return self.predict(images, fitted, checked_intrinsics(intrinsics))

    def fitting(self, width: int, height: int, fit: Fit = "crop") -> Fitting:
        """Return the map from frames of this size, px, to the model's images."""
        return fitting((width, height), (self.info.width, self.info.height), fit)

    @torch.inference_mode()
    def predict(self, images: np.ndarray, fitted: Fitting, intrinsics: np.ndarray) -> Predictions:
        """Return the predictions for images [n h w 3] that were fitted already; ``intrinsics`` are of the frames."""
        windows = evaluation_windows([len(images)], self.config)
        matrix = torch.from_numpy(fitted.intrinsics(intrinsics).astype(np.float32)).to(self.device)
        order: list[np.ndarray] = []
        parts: list[Prediction] = []
        for group in evaluation_groups(windows, self.info, self.config):
            picked = [windows[index].frames for index in group.tolist()]
            order += picked
            frames = as_frames(images[np.concatenate(picked)])
            counts = np.array([len(each) for each in picked])
            valid = torch.from_numpy(np.arange(counts.max()) < counts[:, None]).to(self.device)
            with self.precision.autocast():
                parts.append(self.model(frames.to(self.device), valid, matrix.expand(len(picked), 3, 3)))
        back = np.argsort(np.concatenate(order))  # every frame is in exactly one window
        window = np.repeat(np.arange(len(order)), [len(each) for each in order])[back]
        joints_px, joints_m, objects = (
            np.concatenate([getattr(part, name).float().cpu().numpy() for part in parts])[back]
            for name in ("joints_px", "joints_m", "object_logits")
        )
        actions = torch.cat([part.action_logits for part in parts]).double().softmax(dim=-1).cpu().numpy()
        probabilities = torch.from_numpy(objects).softmax(dim=-1).numpy()
        own = fitted.frame_px(joints_px), joints_m, probabilities, actions, window, self.info
        forecasts = [part.forecast for part in parts if part.forecast is not None]
        if not forecasts:
            return Predictions(*own)
        ahead_px, _, ahead_m = (
            torch.cat(each)[back, 1:].float().cpu().numpy() for each in zip(*forecasts, strict=True)
        )
        return Predictions(*own, fitted.frame_px(ahead_px), ahead_m)

    def stream(self, intrinsics: Any, fit: Fit = "crop") -> Stream:
        """Return a stream that takes frame after frame, at ``stream_rate``; arguments as of a call."""
        return Stream(self.model, self.precision, checked_intrinsics(intrinsics), fit)


def cast_weights(model: HTT, dtype: torch.dtype) -> None:
    """Cast the weights that autocast would cast at every call, in place; a frozen encoder stays in fp32, as there."""
    frozen = set() if model.features.trained else set(model.features.backbone.modules())
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module not in frozen:
            module.to(dtype)


def fuse_batch_norm(network: nn.Module) -> int:
    """Fold each batch norm of transformers' ResNets into the convolution before it; return the number of them.

    Raises:
        ConfigError: a batch norm follows no convolution that is known here.
    """
    fused = 0
    for module in network.modules():
        norm, convolution = getattr(module, "normalization", None), getattr(module, "convolution", None)
        if isinstance(norm, nn.BatchNorm2d) and isinstance(convolution, nn.Conv2d):
            folded = fuse_conv_bn_eval(convolution, norm)
            folded.weight.data = folded.weight.data.contiguous(memory_format=torch.channels_last)
            module.convolution, module.normalization = folded, nn.Identity()
            fused += 1
    if left := sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise ConfigError(f"Cannot fold {left} batch norm layers of this encoder into convolutions. Use fuse=False.")
    return fused
