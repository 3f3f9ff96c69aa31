"""Creation of the two submission files from a model and the clips of a split."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from htt import files
from htt.batch import Batch, Prediction, window_of_frame
from htt.config import Config
from htt.data.loading.clips import Clips
from htt.errors import CheckpointError, DataError, bullets
from htt.group import Group
from htt.model.htt import HTT
from htt.submission.check import faults_of_content
from htt.submission.faults import LINES, Faults, compare, runs
from htt.submission.form import ARCHIVE, LABELS, MODALITY, POSES, Expected, Vote, frame_name
from htt.training.loop import evaluate

DECIMALS = 6
"""Decimals of a coordinate: micrometres."""


@dataclass(frozen=True)
class Predicted:
    """Predictions for the clips of a split, by clip id."""

    actions: dict[str, int]
    """Index of the action of each clip, from 0."""
    joints_m: dict[str, dict[int, np.ndarray]]
    """[j 3] of each frame of each clip, by its number; camera space, metres."""


def require_frames(clips: Clips, wanted: Expected) -> None:
    """Check that every frame of a submission is in the clips, before a prediction of hours starts.

    Raises:
        DataError: clips or frames are not in the shards; lists them.
    """
    faults = Faults()
    compare({id_: clips.frame_numbers(clip).tolist() for clip, id_ in enumerate(clips.ids)}, wanted, faults)
    if faults.lines():
        raise DataError(
            f"A submission needs every frame of every clip, but the shards in {clips.root} lack some of split "
            f"'{clips.split}' ({clips.root}/left_out.txt gives the reasons):\n{bullets(faults.lines(), LINES)}\n"
            "Repair those files and convert the data set again, into a new folder; nothing was written."
        )


def predict(
    model: HTT,
    clips: Clips,
    config: Config,
    *,
    device: torch.device | None = None,
    vote: Vote = "soft",
    on_frames: Callable[[int], None] | None = None,
) -> Predicted:
    """Return the predictions for every frame and clip of a split.

    Args:
        model: model in eval mode; it is moved to the device.
        clips: clips of the split; their actions may be unknown.
        config: the model's configuration, which says how clips are cut into windows.
        device: device of the computation, or None for the CPU.
        vote: vote on an action: by its windows' summed probabilities, or by one vote per window.
        on_frames: callback that gets the number of frames of each batch.

    Raises:
        CheckpointError: some predictions are not finite; lists the clips.
    """
    shape = clips.info.joints, 3
    joints_m = [np.full((count, *shape), np.nan, np.float32) for count in clips.frame_counts.tolist()]

    def take(batch: Batch, prediction: Prediction) -> None:
        clip_of_frame = batch.clip[window_of_frame(batch.valid)].tolist()
        predicted = prediction.joints_m.float().cpu().numpy()
        for clip, frame, joints in zip(clip_of_frame, batch.frame.tolist(), predicted, strict=True):
            joints_m[clip][frame] = joints
        if on_frames:
            on_frames(len(clip_of_frame))

    group = Group(device=device or torch.device("cpu"))
    sums = evaluate(model.to(group.device), clips, config, group=group, on_batch=take).sums()
    known = {clip for clip, soft in zip(sums.clip.tolist(), sums.soft, strict=True) if np.isfinite(soft).all()}
    broken = [
        clips.ids[clip] for clip, joints in enumerate(joints_m) if clip not in known or not np.isfinite(joints).all()
    ]
    if broken:
        raise CheckpointError(f"The predictions are not finite in clips {runs(broken)}. Use another checkpoint.")
    actions = dict(zip(sums.clip.tolist(), sums.actions(vote).tolist(), strict=True))
    numbers = [clips.frame_numbers(clip).tolist() for clip in range(len(clips))]
    return Predicted(
        {id_: actions[clip] for clip, id_ in enumerate(clips.ids)},
        {id_: dict(zip(numbers[clip], joints_m[clip], strict=True)) for clip, id_ in enumerate(clips.ids)},
    )


def contents(predicted: Predicted) -> dict[str, dict[str, Any]]:
    """Return the content of both files, by file name."""
    labels = {clip: action + 1 for clip, action in predicted.actions.items()}
    poses = {
        clip: {frame_name(number): _rounded(joints) for number, joints in frames.items()}
        for clip, frames in predicted.joints_m.items()
    }
    return {LABELS: {"modality": MODALITY, **labels}, POSES: {"modality": MODALITY, **poses}}


def write(folder: Path, predicted: Predicted, wanted: Expected) -> list[Path]:
    """Write both files below ``folder``, each in its own folder, or none of them; return their paths.

    Raises:
        DataError: the files would be incomplete; lists what is missing.
        StorageError: the disk is full or not writable.
    """
    made = contents(predicted)
    lines: dict[str, None] = {}  # each line once, in order
    for name, content in made.items():
        faults = Faults()
        faults_of_content(name, content, wanted, faults)
        lines |= dict.fromkeys(faults.lines())
    if lines:
        raise DataError(
            f"The submission would be incomplete:\n{bullets(list(lines), LINES)}\n"
            "Predict all clips of the split; nothing was written."
        )
    paths = []
    for name, content in made.items():
        path = folder / name.removesuffix(".json") / ARCHIVE
        with files.replacing(path) as temporary:
            _zip(temporary, name, content)
        paths.append(path)
    return paths


def _rounded(joints_m: np.ndarray) -> list[float]:
    rounded: list[float] = np.round(joints_m.astype(np.float64), DECIMALS).ravel().tolist()
    return rounded


def _zip(path: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write compact JSON into a zip; equal content gives equal bytes."""
    member = zipfile.ZipInfo(name)  # dated 1980, independent of the clock
    member.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, json.dumps(content, separators=(",", ":"), allow_nan=False))
