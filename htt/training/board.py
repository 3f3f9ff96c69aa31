"""TensorBoard files of a training: scalars, the configuration with its metrics, and a few drawn predictions.

``tensorboard --logdir runs`` reads them during training. Overlays show the same frames of the validation clips in every
epoch, so that progress is visible: the truth in white, the prediction coloured by finger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from htt.batch import Batch, Prediction
from htt.config import Config, flatten
from htt.hand import BONES, FINGER_OF_BONE, JOINTS_PER_HAND

FINGER_COLOURS = ((230, 75, 53), (243, 155, 38), (77, 175, 74), (66, 133, 244), (156, 89, 209))
"""RGB of thumb, index, middle, ring and little finger."""
TRUTH_COLOUR = (255, 255, 255)
OVERLAY_HEIGHT_PX = 270


class Board:
    """Writer of one training's TensorBoard files; with ``enabled=False`` it does nothing."""

    def __init__(self, folder: Path, config: Config, *, enabled: bool = True) -> None:
        self._config = config
        self._writer = SummaryWriter(str(folder)) if enabled else None
        self._described = False

    def scalars(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Write one point of every metric; the first call also writes the configuration for the HPARAMS page."""
        if self._writer:
            self._describe(metrics)
            for name, value in metrics.items():
                self._writer.add_scalar(_tag(name), value, epoch)
            self._writer.flush()

    def first(self, epoch: int) -> Callable[[Batch, Prediction], None]:
        """Return a callback that draws the predictions of the first batch it receives and ignores later ones."""
        waiting = [epoch]

        def draw(batch: Batch, prediction: Prediction) -> None:
            if waiting:
                self.predictions(waiting.pop(), batch, prediction)

        return draw

    def predictions(self, epoch: int, batch: Batch, prediction: Prediction) -> None:
        """Draw the predicted and the true joints over some frames of a batch."""
        count = self._config.runtime.overlays
        if self._writer and count:
            chosen = np.linspace(0, len(batch.frames) - 1, count).round().astype(int)
            for slot, index in enumerate(chosen):
                image = overlay(batch, prediction, int(index))
                self._writer.add_image(f"predictions/{slot}", image, epoch, dataformats="HWC")

    def close(self) -> None:
        """Close the file; without this, a process that runs many trainings would keep all of them open."""
        if self._writer:
            self._writer.close()

    def _describe(self, metrics: Mapping[str, float]) -> None:
        """Write the configuration for the HPARAMS page, once and early: a stopped training never reaches its end."""
        if self._writer and not self._described:
            self._described = True
            fields = {path: _plain(value) for path, value in flatten(self._config).items()}
            named = {_tag(name): value for name, value in metrics.items()}
            for part in hparams(fields, named):  # type: ignore[no-untyped-call]
                self._writer._get_file_writer().add_summary(part)  # type: ignore[no-untyped-call]


def overlay(batch: Batch, prediction: Prediction, index: int) -> np.ndarray:
    """Return frame ``index`` of a batch, enlarged to 270 rows, with its hands drawn: uint8 [h w 3]."""
    pixels = batch.frames[index].permute(1, 2, 0).cpu().numpy()
    scale = OVERLAY_HEIGHT_PX / pixels.shape[0]
    size = (round(pixels.shape[1] * scale), OVERLAY_HEIGHT_PX)
    image = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    canvas = ImageDraw.Draw(image)
    valid = batch.joint_valid[index].cpu().numpy()
    draw_hands(canvas, _px(batch.joints_px[index]) * scale, valid, truth=True)
    draw_hands(canvas, _px(prediction.joints_px[index]) * scale, valid)
    return np.asarray(image)


def draw_hands(canvas: ImageDraw.ImageDraw, joints_px: np.ndarray, valid: np.ndarray, *, truth: bool = False) -> None:
    """Draw the bones between valid joints [j 2], the truth in white and a prediction coloured by finger."""
    for first in range(0, len(joints_px), JOINTS_PER_HAND):
        for bone, (parent, child) in enumerate(BONES):
            a, b = first + parent, first + child
            if valid[a] and valid[b]:
                colour = TRUTH_COLOUR if truth else FINGER_COLOURS[FINGER_OF_BONE[bone]]
                canvas.line([tuple(joints_px[a]), tuple(joints_px[b])], fill=colour, width=1 if truth else 2)


def _px(joints: torch.Tensor) -> np.ndarray:
    return joints.detach().float().cpu().numpy()


def _tag(name: str) -> str:
    """Return a metric's tag, as ``loss_object`` -> ``loss/loss_object``: TensorBoard groups by the first part."""
    return f"{name.partition('_')[0]}/{name}"


def _plain(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
