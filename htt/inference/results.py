"""Prediction of a whole video, chunk by chunk, and its table ``predictions.parquet``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from htt import files
from htt.errors import DataError
from htt.fitting import Fit
from htt.hand import JOINTS, hand_names
from htt.inference.predictor import Predictions, Predictor, joined
from htt.video import FrameSource, at_rate

TABLE = "predictions.parquet"


def predict_video(
    predictor: Predictor,
    source: FrameSource,
    intrinsics: np.ndarray,
    fit: Fit = "crop",
    on_frames: Callable[[int], object] = lambda _: None,
) -> Predictions:
    """Return the predictions for a video, at the frame rate of the training; one chunk of frames is in memory.

    Args:
        predictor: trained model.
        source: video or folder of images.
        intrinsics: camera matrix [3 3] of the source's frames, px.
        fit: treatment of frames with another aspect ratio than the model's images.
        on_frames: callback that gets the number of frames of each chunk.

    Raises:
        DataError: the source has no frames, or some cannot be read.
    """
    fitted = predictor.fitting(*source.size, fit)
    images = (fitted.image(frame) for frame in at_rate(source, predictor.frame_rate))
    parts = []
    while chunk := list(islice(images, predictor.chunk)):
        parts.append(predictor.predict(np.stack(chunk), fitted, intrinsics))
        on_frames(len(chunk))
    if not parts:
        raise DataError(f"No frames in {source.name}.")
    return joined(parts)


@dataclass(frozen=True)
class Segment:
    """Part of a video of which the model says one action."""

    first: int
    """Index of the first frame."""
    end: int
    """Index after the last frame."""
    probabilities: np.ndarray
    """[a] mean over the windows of these frames."""


def segments(predictions: Predictions, chunk: int) -> list[Segment]:
    """Return the chunks of a video with their actions; windows of one chunk see every n-th of the same frames."""
    found = []
    for first in range(0, len(predictions.window), chunk):
        window = predictions.window[first : first + chunk]
        mean = predictions.action_probabilities[np.unique(window)].mean(axis=0)
        found.append(Segment(first, first + len(window), mean))
    return found


def table(predictions: Predictions, frame_rate: float) -> pl.DataFrame:
    """Return a row per frame; joints and probabilities are arrays, whose names are in the file's metadata.

    The columns of a forecast hold the hands of the frames after it [s j ...], of which ``frame_rate`` are a second.
    """
    names, values = zip(*predictions.objects(), strict=True)
    actions = predictions.action_probabilities[predictions.window]
    joints, kinds = predictions.joints_px.shape[1], actions.shape[1]
    frames = np.arange(len(actions))
    forecasts = {"forecast_px": predictions.forecast_px, "forecast_m": predictions.forecast_m}
    return pl.DataFrame(
        {
            "frame": frames.astype(np.int32),
            "time_s": frames / frame_rate,
            "joints_px": pl.Series(predictions.joints_px, dtype=pl.Array(pl.Float32, (joints, 2))),
            "joints_m": pl.Series(predictions.joints_m, dtype=pl.Array(pl.Float32, (joints, 3))),
            "object": names,
            "object_probability": pl.Series(values, dtype=pl.Float32),
            "window": predictions.window.astype(np.int32),
            "action": [predictions.info.actions[best] for best in actions.argmax(axis=1)],
            "action_probability": actions.max(axis=1).astype(np.float32),
            "action_probabilities": pl.Series(actions.astype(np.float32), dtype=pl.Array(pl.Float32, kinds)),
            **{
                name: pl.Series(values, dtype=pl.Array(pl.Float32, values.shape[1:]))
                for name, values in forecasts.items()
                if values is not None
            },
        }
    )


def write(folder: Path, predictions: Predictions, frame_rate: float, about: Mapping[str, Any]) -> Path:
    """Write the table and return its path; its metadata ``htt`` name joints and classes, and hold ``about`` as JSON.

    Raises:
        StorageError: the disk is full or not writable.
    """
    info = predictions.info
    joints = [f"{hand} {joint}" for hand in hand_names(info.hands) for joint in JOINTS]
    names = {"joints": joints, "objects": info.objects, "actions": info.actions, "frame_rate": frame_rate}
    with files.replacing(folder / TABLE) as path:
        table(predictions, frame_rate).write_parquet(path, metadata={"htt": json.dumps({**names, **about})})
    return folder / TABLE
