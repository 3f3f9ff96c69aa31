"""Tasks of a worker: train a configuration, or evaluate a trained model. Without Ray, which ``worker`` adds.

Every command ends here with the same configuration, so one worker alone and one of several give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from htt.batch import Batch, Prediction
from htt.config import Config, override
from htt.data.loading import splits
from htt.data.loading.clips import Clips
from htt.data.loading.splits import Splits
from htt.data.location import cache_folder
from htt.data.prepare import prepare
from htt.data.shards import manifest
from htt.data.store import mirror
from htt.errors import DataError
from htt.evaluation import baselines
from htt.evaluation.metric_table import EVALUATED, TIMES_MS, frame_at, head_of
from htt.evaluation.metrics import Evaluation
from htt.group import Group, best_device
from htt.hand import HANDS, hand_names
from htt.info import UNKNOWN
from htt.losses import TERMS
from htt.model.heads import NO_HAND_TYPES
from htt.model.htt import HTT
from htt.neighbours import Neighbours
from htt.training.encoding import data_folder
from htt.training.loading import open_trained
from htt.training.loop import EpochCallback, evaluate, fit

OF_HANDS = ("loss_joints_px", "loss_depth_m", "loss_forecast_px", "loss_forecast_depth_m")
"""Loss terms that need annotated hands."""
OF_HAND_TYPES = ("loss_hand_type", "hand_type_accuracy")
"""Metrics that need named hand types and a head for them."""


def train(config: Config, folder: Path, report: EpochCallback, resume: Path | None = None) -> None:
    """Train in this process, without other workers.

    Args:
        config: complete configuration of the training.
        folder: folder for checkpoints and TensorBoard files.
        report: callback that gets each epoch's metrics and the folder of its checkpoint.
        resume: folder of a checkpoint to resume from, or None.
    """
    splits = open_splits(config)
    with Neighbours(cache_folder(config)) as neighbours:
        group = Group(device=best_device(), neighbours=neighbours)
        fit(config, splits, report, folder=folder, group=group, resume=resume)


def open_splits(config: Config) -> Splits:
    """Open the training and validation clips of a configuration, after rendering, encoding or checking them.

    Raises:
        DataError: there are no data, or no clip of a split has a label that ``model.action`` needs.
    """
    opened = splits.open_splits(data_folder(config), config.data)
    for clips in filter(None, (opened.train, opened.val)):
        check_trainable(config, clips)
    return opened


@dataclass(frozen=True)
class Facts:
    """Facts of the data that a search or study needs before its first trial."""

    incomplete: Sequence[str] = ()
    """A sentence for the training split and for the validation split if clips are missing."""
    unknown: Mapping[str, str] = field(default_factory=dict)
    """{metric: reason why the validation clips cannot give it}."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """{metric: value that is reached without the images}, by the mean pose of the training clips or by chance."""
    unpredicted: Mapping[str, str] = field(default_factory=dict)
    """{metric: reason why the model cannot give it}; another variant of a study may."""


def prepare_search(config: Config) -> Facts:
    """Prepare a configuration's data for trials, which are selected by validation clips.

    Raises:
        DataError: the data do not exist, or have no validation clips.
    """
    root = data_folder(config)
    splits.check_validation(root, config.data)
    lacking = splits.incomplete(root, config.data, manifest.TRAIN, manifest.VAL)
    val = splits.open_named(root, manifest.VAL, config.data)
    check_trainable(config, val)
    lowest = baselines.chance(val)
    if not mirror.is_mirror(root):  # else all shards of the training split would be downloaded here
        train = splits.open_splits(root, config.data).train  # its hands as far as they are labels
        lowest["hand_error_mm"] = baselines.mean_pose_error_mm(train, val)
    reasons, never = unknown(val), unpredicted(config, val.info.frame_rate)
    absent = {*reasons, *never}
    known = {name: value for name, value in lowest.items() if name not in absent and not math.isnan(value)}
    return Facts(lacking, reasons, known, never)


def unknown(clips: Clips) -> dict[str, str]:
    """Return the metrics that clips cannot give, each with the reason; reads as few clips as possible."""
    reasons: dict[str, str] = {}
    known, labels = hand_names(clips.info.hands), {"action": clips.action, "object": clips.object}
    seen = np.zeros(len(known), bool)
    for clip in range(len(clips)):
        if seen.all():
            break
        seen |= clips.hand_valid(clip).any(axis=0)
    for hand in HANDS:
        if hand not in known:
            reason = f"the data have only the {' and the '.join(known)} hand"
        elif not seen[known.index(hand)]:
            reason = f"no frame of these clips has an annotated {hand} hand"
        else:
            continue
        reasons |= {name: reason for name in EVALUATED if name.startswith("hand_") and f"_{hand}" in name}
    if not seen.any():
        reason = "no frame of these clips has an annotated hand"
        of_hands = ("hand", "forecast")
        reasons |= {name: reason for name in EVALUATED if head_of(name) in of_hands or name in OF_HANDS}
    for label, values in labels.items():
        if (values == UNKNOWN).all():
            reason = f"the {label}s of these clips are unknown"
            reasons |= {name: reason for name in EVALUATED if name.startswith(f"{label}_") or name == f"loss_{label}"}
    if not clips.info.hand_types:
        reasons |= dict.fromkeys(OF_HAND_TYPES, "the data do not name hand types")
    if all(f"loss_{term}" in reasons for term in TERMS):
        reasons["loss"] = "these clips have no labels"
    return reasons


def unpredicted(config: Config, frame_rate: float) -> dict[str, str]:
    """Return the metrics that a model without some heads cannot give, each with the reason.

    Args:
        config: configuration of the training.
        frame_rate: frames per second of the data, for the times of a forecast.
    """
    if not config.model.backbone.reads_images:
        reason = "a model without an image encoder predicts neither hands nor objects"
        absent = ("hand", "hand_type", "object", "forecast")
        losses = {*OF_HANDS, "loss_object", "loss_hand_type"}
        return {name: reason for name in EVALUATED if head_of(name) in absent or name in losses}
    reasons: dict[str, str] = {}
    if not config.model.predicts_hand_types:
        reasons = dict.fromkeys(OF_HAND_TYPES, "the model has no head for hand types (model.action.cues)")
    ahead = [name for name in EVALUATED if name.startswith(("forecast_", "loss_forecast_"))]
    frames = config.model.forecast.frames
    if not frames:
        return reasons | dict.fromkeys(ahead, "the model has no forecast; set model.forecast.frames to 1 or more")
    for time_ms in TIMES_MS:
        step = frame_at(time_ms, frame_rate)
        if step is None:
            reason = f"{time_ms / 1000:g} s is no whole number of frames at {frame_rate:g} frames/s"
        elif step > frames:
            reason = f"model.forecast.frames is {frames}, and {time_ms / 1000:g} s are {step} frames"
        else:
            continue
        reasons |= {name: reason for name in ahead if f"_{time_ms}ms_" in name}
    return reasons


def without_truth(config: Config, clips: Clips) -> list[str]:
    """Return a reason for each cue of ``model.action.given`` whose true value none of the clips has."""
    if not config.model.action.given:
        return []
    losses = {"hands": "loss_joints_px", "object": "loss_object", "hand_type": "loss_hand_type"}
    reasons = unknown(clips)
    return [reasons[losses[cue]] for cue in config.model.action.given if losses[cue] in reasons]


def check_given(config: Config, clips: Clips) -> None:
    """Raise a ``DataError`` if a model with given cues is to be trained or evaluated on clips without these labels."""
    reasons = without_truth(config, clips)
    if reasons and not config.model.backbone.reads_images:
        raise DataError(
            f"A model without an image encoder (model.backbone.name none) sees the given "
            f"{' and '.join(config.model.action.given)} alone, but in split '{clips.split}' {' and '.join(reasons)}. "
            "Use clips with them, or train a model on images."
        )
    if reasons:
        raise DataError(
            f"model.action.given is {', '.join(config.model.action.given)}, but in split '{clips.split}' "
            f"{' and '.join(reasons)}. Such a model gives an upper bound, from labels, and no result: use labelled "
            "clips, or train with model.action.given=[]."
        )


def check_trainable(config: Config, clips: Clips) -> None:
    """Raise a ``DataError`` if clips lack labels that block A of a model in training needs; see ``check_given``."""
    if config.model.predicts_hand_types and not clips.info.hand_types:
        raise DataError(NO_HAND_TYPES)
    check_given(config, clips)


def metrics_of_test(model: HTT, config: Config, group: Group) -> dict[str, float]:
    """Return the metrics of the test split, as ``test_...``.

    They are empty if the data have no test clips, or none with the labels that ``model.action.given`` needs.
    """
    root = data_folder(config)
    if not manifest.read(root).splits.get(manifest.TEST):
        return {}
    clips = splits.open_named(root, manifest.TEST, config.data)
    if without_truth(config, clips):
        return {}
    metrics = evaluate(model, clips, config, group=group).result()
    return {f"{manifest.TEST}_{name}": value for name, value in metrics.items()}


def incomplete(config: Config) -> list[str]:
    """Return a sentence for each incomplete split of a training's data."""
    return splits.incomplete(prepare(config), config.data, manifest.TRAIN, manifest.VAL, manifest.TEST)


@dataclass(frozen=True)
class EvaluationJob:
    """Evaluation of a checkpoint on a split."""

    checkpoint: Path
    config: Config
    """Configuration of the evaluation: the checkpoint's, possibly with other data."""
    split: str
    official: bool = False
    """True if the checkpoint is a file of HTT's authors."""

    def __call__(self, group: Group, done: Callable[[int], object]) -> Evaluation:
        """Return the evaluation: the same on every worker, to the last bit for any number of workers.

        Args:
            group: this worker and the others.
            done: callback that gets the number of windows of each finished batch.
        """
        clips = splits.open_named(prepare(self.config), self.split, self.config.data)
        model, _ = open_trained(self.checkpoint, clips.info, official=self.official)
        own = model.config.forecast  # the labels must be those of the frames that this model predicts
        config = override(self.config, {"model.forecast.frames": own.frames, "model.forecast.action": own.action})

        def on_batch(batch: Batch, prediction: Prediction) -> None:  # noqa: ARG001 - as the loop calls it
            done(len(batch.valid))

        return evaluate(model.to(group.device), clips, config, group=group, on_batch=on_batch)
