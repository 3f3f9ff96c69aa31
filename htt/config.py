"""Configuration of a training. The defaults are the paper's recipe for H2O, as its authors released it.

A configuration is a frozen tree of plain values. It is never edited: ``override(config, {"optim.lr": 1e-4})`` returns a
new, completely validated one, or raises one error that lists every invalid entry and the nearest valid name. The same
function serves ``--set`` on a command line, a sample of a search and a variant of a study, so a value has the same
meaning in all of them.

``runtime`` holds fields that cannot change a result (paths, processes, logging). ``fingerprint`` hashes all other
fields: it names trials, finds duplicates and protects a resume. Facts of a data set (classes, hands, image size) are
not configuration: they come with the data, as ``htt.info.DataInfo``.

Sources: "paper" is Wen et al., CVPR 2023 (arXiv 2209.09484) with the authors' released configuration for H2O.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from htt import yaml_text
from htt.errors import ConfigError, did_you_mean, shown

Value = Any
"""Plain value of a field: bool, int, float, str, None, or a list of them."""


def _is_readable(text: str) -> str:
    if not text.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise ValueError(
            f"must be non-empty text without control characters; got {shown(text)}. For no value, write none"
        )
    return text


def _are_two(values: Any) -> Any:
    if not isinstance(values, (list, tuple)) or len(values) != 2:
        raise ValueError(f"must list two numbers, as in [0.2, 1]; got {shown(values)}")
    return values


def _is_not_empty(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values:
        raise ValueError("must list at least one number; got []")
    return values


MOST = 1e6
"""Largest value of numbers without another bound: far beyond practical use, and small enough to compute with."""
SIZE = 2**16
"""Largest width, depth or length of a network's parts, including image sides and frames."""

Text = Annotated[str, AfterValidator(_is_readable)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Size = Annotated[int, Field(ge=1, le=SIZE)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Weight = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.2, le=5)]
Ratios = Annotated[tuple[Ratio, ...], Field(strict=False), AfterValidator(_is_not_empty)]

PLUGIN = r"^[a-z][a-z0-9_]*$"
NO_ENCODER = "none"
"""Name of the backbone of a model that sees the joints of the data and no images."""


class Section(BaseModel):
    """Frozen group of fields; unknown fields are errors, and a number is never parsed from a string."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class SyntheticConfig(Section):
    """Rendered benchmark, used when ``data.source`` is synthetic and ``data.root`` is not given."""

    train_clips: Positive = 324
    """Training clips; a multiple of 36 gives every action equally often."""
    val_clips: Positive = 72
    """Validation clips, with other subjects, rooms, motions and head paths than the training clips."""
    test_clips: Positive = 72
    """Test clips, used once, by the final evaluation."""
    frames: Annotated[int, Field(ge=4, le=SIZE)] = 32
    """Frames of the longest clip, at 15 frames/s; clips have 0.6 to 1.0 of them."""
    width: Annotated[int, Field(ge=32, le=SIZE)] = 96
    """Image width, px."""
    height: Annotated[int, Field(ge=32, le=SIZE)] = 54
    """Image height, px."""
    new_objects: bool = False
    """True if every clip has objects of its own; False if all clips share eight objects, as in H2O."""
    focal: Ratios = (0.8,)
    """Focal lengths of the cameras, in image widths; 0.8 sees 64 degrees. Each motion is seen by one of them."""
    distance: Ratios = (1.0,)
    """Distances from the camera to the work, as multiples of the usual one, about 0.6 m. Each motion is seen from one
    of them."""
    held_out_focal: Ratios | None = None
    """Focal lengths in validation and test clips, or None for those of training clips."""
    held_out_distance: Ratios | None = None
    """Distances in validation and test clips, or None for those of training clips."""
    seed: Seed = 0
    """Random seed of the rendering."""


class AugmentConfig(Section):
    """Augmentation of training images; the frames of a window share colours and crops. Source: paper."""

    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Largest turn of the hue, in turns of the colour circle."""
    saturation: Fraction = 0.5
    """Largest relative change of the saturation."""
    contrast: Fraction = 0.5
    """Largest relative change of the contrast."""
    brightness: Fraction = 0.5
    """Largest relative change of the brightness."""
    centre: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift of the image along each axis, as a fraction of its width; 2D targets move along."""
    blur_px: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Largest radius (standard deviation) of the Gaussian blur, px, drawn for every frame."""
    views: Annotated[int, Field(ge=0, le=100)] | None = None
    """Augmented copies of each clip, drawn once; 0 for plain images, or None for a fresh augmentation at every step
    (paper). With a frozen encoder and 0 or more, each image is encoded once and its feature kept."""


class DataConfig(Section):
    """Choice of clips, and how they are cut into windows of frames."""

    source: Annotated[str, Field(pattern=PLUGIN)] = "synthetic"
    """Kind of data: a module of htt/data/sources."""
    root: Text | None = None
    """Folder or URI of converted shards, or None for the synthetic benchmark, which is rendered once and cached."""
    spacing: Size = 2
    """Spacing of the frames taken from a clip; with 2, H2O's 30 frames/s become 15. Source: paper."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training clips used for validation, if the data have no validation split (FPHA). The paper trains on
    all of them: 0."""
    labelled: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training clips whose labels are used (paper: all). The choice is part of the data: it has each
    action in proportion and at least once, keeps groups of clips that are alike whole, contains the choice of every
    smaller share, and does not depend on ``train.seed``. An epoch keeps its number of steps, so that chosen clips are
    seen several times."""
    unlabelled: Literal["ignore", "pseudo_labels", "actions", "poses"] = "ignore"
    """Use of the other training clips. ignore: none; pseudo_labels: without labels, with those that a moving-average
    teacher gives (see ``pseudo``); actions: with the labels of a clip, its action and object, and without hands; poses:
    with the joints of its hands, and without action, object and hand types."""
    unlabelled_windows: Annotated[int, Field(ge=1, le=100)] = 1
    """Windows of the other clips in a step for each labelled one; ``train.batch_size`` counts the labelled windows."""
    shifted_starts: bool = True
    """Train on windows from every start offset, not only on those of an evaluation. Source: paper."""
    observed: Annotated[tuple[Share, Share], Field(strict=False), BeforeValidator(_are_two)] = (1.0, 1.0)
    """Smallest and largest share of a clip that a training window may see; each window's share is drawn anew in every
    epoch, and the rest of the clip is cut off. (1, 1) trains on whole clips (paper); (0.2, 1) on random beginnings."""
    augment: AugmentConfig = AugmentConfig()
    synthetic: SyntheticConfig = SyntheticConfig()

    @model_validator(mode="after")
    def _observed_shares_are_ordered(self) -> DataConfig:
        low, high = self.observed
        if low > high:
            raise ValueError(
                f"observed must be the smallest and then the largest share; got [{low:g}, {high:g}]. Swap them"
            )
        return self


class BackboneConfig(Section):
    """Image encoder: one frame -> one feature."""

    trained: bool = True
    """Train the encoder with the rest (paper), or keep its weights, which must then be given."""

    name: Text = "resnet18"
    """A module of htt/model/backbones, a vision model of the hub ("facebook/dinov2-small"), a local folder, or none for
    a model that sees the joints of the data and no images (see the preset poses)."""
    weights: Text | None = None
    """Source of the weights: a local file or folder, a hub name, or "random". None means the model's own weights for a
    hub model or folder, and random weights for a module, which need ``batch_norm`` live. The paper's are ImageNet's, as
    in "timm/resnet18.tv_in1k"."""
    batch_norm: Literal["frozen", "live"] = "frozen"
    """Frozen: use and keep the stored statistics in training. Source: the released code trains in eval mode."""
    normalise: Literal["centre", "imagenet"] | None = None
    """Normalisation of pixels: value/255 - 0.5 (centre), or ImageNet's mean and deviation. None means centre for a
    module (as released), and the settings of its image processor for a hub model."""
    recompute: bool = False
    """Compute the encoder's activations again in the backward pass instead of keeping them: less memory, a third more
    time, the same numbers. Needs ``batch_norm`` frozen."""
    size: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Side (px) of the square that images are resized to before they are encoded, or None to keep their size."""

    @property
    def reads_images(self) -> bool:
        """False if the model has no image encoder: block A alone is trained, on the joints of the data."""
        return self.name != NO_ENCODER

    @model_validator(mode="after")
    def _frozen_encoder_has_fixed_weights(self) -> BackboneConfig:
        if not self.reads_images and (self.weights is not None or not self.trained):
            raise ValueError(
                f"name {NO_ENCODER} is no encoder, which could have weights or be frozen. Set model.backbone.weights "
                "to none and model.backbone.trained to true"
            )
        own = self.weights is None and "/" in self.name  # a hub model or a folder has weights of its own
        if not self.trained and not own and self.weights in (None, "random"):
            raise ValueError(
                f"weights must be given for an encoder that is not trained; got {self.weights or 'none'}. Set "
                "model.backbone.weights, or set model.backbone.trained to true"
            )
        if self.recompute and self.batch_norm == "live":
            raise ValueError(
                "recompute needs frozen batch norm, as its statistics would count every image twice; got batch_norm "
                "live. Set model.backbone.batch_norm to frozen, or model.backbone.recompute to false"
            )
        if not self.trained and self.batch_norm == "live":
            raise ValueError(
                "batch_norm must be frozen for an encoder that is not trained; got live. Set "
                "model.backbone.batch_norm to frozen"
            )
        return self


class BlockConfig(Section):
    """Temporal block: tokens in, tokens out."""

    block: Annotated[str, Field(pattern=PLUGIN)] = "transformer"
    """A module of htt/model/blocks: transformer, lstm, mean or identity."""
    depth: Size = 2
    """Number of layers. Source: paper."""
    heads: Size = 8
    """Number of attention heads; must divide model.width. Source: paper."""
    feedforward: Size = 2048
    """Width of the feed-forward layers. Source: paper."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout probability in training. Source: released configuration."""


class PoseConfig(BlockConfig):
    """Block P: short windows of frames -> the hands and the object of each frame."""

    window: Size = 16
    """Frames block P sees at once (t in the paper)."""
    pixel_scale: Above0 = 100.0
    """px per unit of the pose head's x and y, around the image centre. Source: released code."""
    depth_scale_m: Above0 = 1e-4
    """Metres per unit of the pose head's depth and per px of focal length. Source: released code."""
    depth_offset_m: Annotated[float, Field(ge=-MOST, le=MOST)] = 0.4
    """Depth of a joint for an output of 0 of the pose head, m. Source: released code."""
    back_projection: Literal["focal_x", "both"] = "focal_x"
    """Focal lengths of the back-projection: f_x for both axes (as released), or f_x and f_y."""
    joint_depth: Literal["released", "virtual_camera"] = "released"
    """Depth that the pose head predicts. "released": the difference from ``depth_offset_m``, m per px of focal length.
    "virtual_camera": the depth at which a camera of the focal length ``virtual_focal`` shows the joint in the same
    size, m; the true depth is that depth times the ratio of the focal lengths. A model can then be trained and used
    with cameras of different fields of view."""
    virtual_focal: Above0 = 0.5
    """Focal length of the virtual camera, in image widths; H2O's camera has 0.497. With a camera of this focal length
    both kinds of ``joint_depth`` are the same."""


class ActionConfig(BlockConfig):
    """Block A: the whole window of a clip -> its action."""

    length: Size = 128
    """Largest number of frames block A sees (T in the paper)."""
    cues: Annotated[tuple[Literal["feature", "hands", "object", "hand_type"], ...], Field(strict=False)] = (
        "feature",
        "hands",
        "object",
    )
    """Inputs of block A for each frame. hand_type is what each hand does, such as its grasp: it gets a head and a loss
    of its own, and needs data that name it (the rendered benchmark does). Source: paper, section 3.3, without
    hand_type."""
    hands: Literal["2d", "3d"] = "2d"
    """Part of the pose head's output that block A sees: x and y, or x, y and depth."""
    given: Annotated[tuple[Literal["hands", "object", "hand_type"], ...], Field(strict=False)] = ()
    """Cues of which block A sees the true value, in training and evaluation: the accuracy of actions is then an upper
    bound, for perfect heads. Joints, objects and hand types without a label keep their prediction. A model
    without an image encoder sees nothing else, so its cues are all given; values without a label are 0."""
    causal: bool = False
    """Let each frame of block A see only itself and earlier frames, so that nothing computed from a frame changes when
    later ones arrive; the action token sees all frames so far. Released: every frame sees the whole window. With one
    layer nothing changes, since the token alone is read; nor in the blocks mean and identity. An lstm reads forwards
    only."""

    @model_validator(mode="after")
    def _cues_differ(self) -> ActionConfig:
        if not self.cues or len(set(self.cues)) != len(self.cues):
            raise ValueError(f"must list at least one cue, each once; got {list(self.cues)}")
        if not set(self.given) <= set(self.cues) or len(set(self.given)) != len(self.given):
            raise ValueError(
                f"given must list cues of model.action.cues {list(self.cues)}, each once; got {list(self.given)}"
            )
        return self


class ForecastConfig(Section):
    """Motion forecasting: a head on block P's tokens predicts the hands of later frames. The paper has none."""

    frames: Annotated[int, Field(ge=0, le=300)] = 0
    """Frames after each frame whose hands are predicted, at the frame rate of the data (not of ``data.spacing``), or 0
    for no such head (paper)."""
    action: bool = False
    """Give the head the action that block A recognises in the finished windows of block P up to the frame."""

    @model_validator(mode="after")
    def _action_needs_a_head(self) -> ForecastConfig:
        if self.action and not self.frames:
            raise ValueError(
                "action is a cue of the forecast, and there is none; got frames 0. Set model.forecast.frames to 1 or "
                "more, or model.forecast.action to false"
            )
        return self


class ModelConfig(Section):
    """Network."""

    width: Size = 512
    """Width of every token (d in the paper)."""
    weights: Text | None = None
    """Folder or URI of a checkpoint of a whole model that the training starts from, or None to start with new blocks
    and heads. A relative path is relative to the folder in which the command is started."""
    backbone: BackboneConfig = BackboneConfig()
    pose: PoseConfig = PoseConfig()
    action: ActionConfig = ActionConfig()
    forecast: ForecastConfig = ForecastConfig()

    @property
    def predicts_hand_types(self) -> bool:
        """True if the model has a head for hand types."""
        return self.backbone.reads_images and "hand_type" in self.action.cues

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        fitting = [str(heads) for heads in range(1, min(self.width, 64) + 1) if self.width % heads == 0]
        for name, part in (("pose", self.pose), ("action", self.action)):
            if part.block == "transformer" and self.width % part.heads:
                raise ValueError(
                    f"model.{name}.heads must divide model.width; got {part.heads} and {self.width}. "
                    f"Valid numbers of heads: {', '.join(fitting)}"
                )
        return self

    @model_validator(mode="after")
    def _forecast_gets_no_labels(self) -> ModelConfig:
        if self.forecast.action and self.action.given:
            raise ValueError(
                f"model.action.given {list(self.action.given)} gives block A labels, and model.forecast.action would "
                "pass them to the forecast. Set model.action.given to [], or model.forecast.action to false"
            )
        return self


class LossConfig(Section):
    """Weights of the loss terms. Source: paper, section 3.4, in the released code's units."""

    joints_px: Weight = 1.0
    """Weight of the mean absolute 2D error of a joint, per px."""
    depth_m: Weight = 100.0
    """Weight of the mean absolute depth error of a joint, per m."""
    object: Weight = 1.0
    """Weight of the cross entropy of each frame's object."""
    action: Weight = 1.0
    """Weight of the cross entropy of the clip's action."""
    hand_type: Weight = 1.0
    """Weight of the cross entropy of each hand's type, if ``model.action.cues`` has hand_type. The paper has no such
    term."""
    forecast: Weight = 1.0
    """Weight of the errors of ``model.forecast``, as a multiple of ``joints_px`` and ``depth_m``. They are means over
    its frames, so 1 weighs a forecast hand like a seen one, for any number of frames."""


class DistillConfig(Section):
    """Distillation: a trained model, the teacher, gives soft targets beside the labels. The paper uses none."""

    teacher: Text | None = None
    """Folder or URI of the teacher's checkpoint, or None for no distillation. A relative path is relative to the folder
    in which the command is started."""
    action: Weight = 1.0
    """Weight of the divergence from the teacher's probabilities of actions (Kullback-Leibler), per nat."""
    pose: Weight = 1.0
    """Weight of the difference from the teacher's joints, as a multiple of ``loss.joints_px`` and ``loss.depth_m``."""
    temperature: Above0 = 2.0
    """Temperature that softens the probabilities of actions. Source: Hinton et al. 2015 (arXiv 1503.02531)."""


class PseudoConfig(Section):
    """Pseudo-labels of clips without labels: predictions of a teacher, the moving average ``train.ema`` of the weights.

    The teacher sees two other augmentations of a clip than the model, and its labels are the means of both. Sources:
    Tarvainen and Valpola 2017 (arXiv 1703.01780), the teacher; Sohn et al. 2020 (arXiv 2001.07685), the threshold.
    """

    confidence: Fraction = 0.95
    """Smallest probability of an action or object that becomes a label."""
    agreement_mm: Above0 = 10.0
    """Largest distance between the teacher's two positions of a joint that becomes a label, mm. Agreement says that the
    teacher is steady, not that it is right."""
    weight: Weight = 1.0
    """Weight of pseudo-labels, as a multiple of ``loss``. Each term is divided by the number of all possible labels, so
    that few labels weigh little."""
    ramp: Fraction = 0.25
    """Share of the training's steps over which the weight rises linearly from 0."""


class OptimConfig(Section):
    """Optimiser and learning-rate schedule. Source of the defaults: paper, section 4."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Above0 = 3e-5
    """Learning rate."""
    backbone_lr: Above0 | None = None
    """Learning rate of the image encoder, with the same schedule and warm-up, or None for ``lr`` times
    ``backbone_lr_factor``; not used while the encoder is frozen."""
    backbone_lr_factor: Above0 = 1.0
    """Learning rate of the image encoder as a multiple of ``lr``."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from each layer of the image encoder to the layer before it: below 1, pretrained
    early layers change less."""
    weight_decay: Weight = 0.0
    """Weight decay: decoupled with adamw, added to the gradient otherwise."""
    decayed: Literal["all", "matrices"] = "all"
    """Parameters with weight decay: all, or only matrices and kernels, without biases, norms and the action token."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum, used by sgd only."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    step_epochs: Positive = 15
    """Epochs between two steps of the step schedule."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor of the learning rate at each step; a related paper uses 0.1."""
    warmup_epochs: Weight = 0.0
    """Epochs over which the learning rate rises linearly from 0; may be a fraction."""
    clip_norm: Above0 | None = None
    """Largest norm of the gradient, or None for no limit."""

    @model_validator(mode="after")
    def _one_rate_of_the_encoder(self) -> OptimConfig:
        if self.backbone_lr is not None and self.backbone_lr_factor != 1:
            raise ValueError(
                f"cannot use both backbone_lr {self.backbone_lr:g} and backbone_lr_factor {self.backbone_lr_factor:g}. "
                "Set optim.backbone_lr to none, or optim.backbone_lr_factor to 1"
            )
        return self


class TrainConfig(Section):
    """Length, batch size, seed and precision of the training."""

    epochs: Positive = 45
    """Passes over the training windows. Source: paper."""
    batch_size: Positive = 2
    """Windows per step, over all workers; with scaling linear, per worker. Source: paper."""
    scaling: Literal["none", "linear"] = "none"
    """Effect of the number of workers. "none": they share the step of one worker (each draws its own augmentation and
    dropout). "linear": batch and learning rate are multiplied by the number of workers (linear scaling rule, Goyal et
    al. 2017, section 2.1)."""
    seed: Seed = 0
    """Random seed of weights, order and augmentation."""
    parts: Positive = 1
    """Parts of a worker's step whose gradients are computed one after another, which needs less memory. The step is the
    same except for rounding, dropout, and live batch norm."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; an error if the device does not support it, also if it only emulates it. TF32
    rounds the factors of products to 10 bits; fp32 never uses it."""
    deterministic: bool = False
    """Use algorithms that give the same numbers in every run also on a GPU, where they are slower. On a CPU all are."""
    compile: Literal["off", "on", "auto"] = "auto"
    """Compile the network for its training, which takes minutes; evaluations are not compiled. "auto" compiles long
    trainings on a GPU, and none on a CPU, where it gains at most 7 % of a step. Numbers change in their last digits."""
    windows_per_epoch: Positive | None = None
    """Training windows per epoch, drawn anew for each epoch, or None for all windows."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of a moving average of the weights, which is evaluated and kept in place of the weights; 0 for the
    weights themselves (paper). The decay of step s, from 0, is at most (1 + s) / (10 + s)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the probability that the training's targets give to all classes of objects and actions alike."""


class RuntimeConfig(Section):
    """Fields that cannot change a result."""

    cache: Text | None = None
    """Folder for rendered and downloaded data, or None for $HTT_CACHE, else ~/.cache/htt."""
    cache_gb: Above0 | None = None
    """Largest size of downloaded shards on each machine's disk, GB (10^9 bytes), or None for no limit. Shards in use
    are kept."""
    features: Text | None = None
    """Folder or URI of features made by ``python -m htt.data.encode``, or None to make them in the cache; used by
    trainings with a frozen encoder."""
    loader_workers: Count = 0
    """Processes per training worker that decode images; 0 decodes in the training process itself."""
    tensorboard: bool = True
    """Write scalars, the configuration and a few drawn predictions of each epoch."""
    overlays: Count = 4
    """Drawn predictions per epoch, in TensorBoard."""
    early_action: bool = False
    """Also measure ``action_early_auc`` in evaluations, for which block P and block A run again on nine beginnings of
    each clip. ``htt.evaluate`` always does, as do runs that select or compare by it."""
    keep_checkpoints: Positive = 2
    """Newest checkpoints of a final training to keep; 1 also keeps two, since one may be damaged."""
    resize_minutes: Above0 = 1.0
    """Minutes between checks whether a final training with a range of workers can get more of them."""
    save_minutes: Above0 | None = 10.0
    """Minutes between checkpoints within an epoch of a final training, or None to save only before a preemption."""


class Config(Section):
    """Complete configuration of one training."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    distill: DistillConfig = DistillConfig()
    pseudo: PseudoConfig = PseudoConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    @model_validator(mode="after")
    def _without_encoder_only_block_a_is_trained(self) -> Config:
        if self.model.backbone.reads_images:
            return self
        block, action = self.model.pose.block, self.model.action
        cues, given = ", ".join(action.cues), ", ".join(action.given)
        needed = [
            ("model.pose.block", block == "identity", "identity", block),
            ("model.action.cues", "feature" not in action.cues, "hands, object or both", cues),
            ("model.action.given", set(action.given) == set(action.cues), "equal to the cues", given or "none"),
            ("distill.teacher", self.distill.teacher is None, "none", self.distill.teacher),
            ("model.forecast.frames", not self.model.forecast.frames, "0", f"{self.model.forecast.frames}"),
        ]
        for term in ("joints_px", "depth_m", "object"):
            weight = getattr(self.loss, term)
            needed.append((f"loss.{term}", not weight, "0", f"{weight:g}"))
        wrong = [f"{path} must be {must}, got {value}" for path, fits, must, value in needed if not fits]
        if wrong:
            raise ValueError(
                f"model.backbone.name {NO_ENCODER} trains block A alone, on given joints or objects: "
                f"{'; '.join(wrong)}. The preset and the space poses have these values"
            )
        return self

    @model_validator(mode="after")
    def _other_clips_can_be_used(self) -> Config:
        data, action = self.data, self.model.action
        if data.unlabelled == "ignore":
            return self
        if data.labelled == 1:
            raise ValueError(
                f"data.unlabelled {data.unlabelled} needs clips whose labels are not used; got data.labelled 1. Set "
                "data.labelled below 1, or data.unlabelled to ignore"
            )
        if action.given:
            raise ValueError(
                f"model.action.given needs labels that clips of data.unlabelled {data.unlabelled} do not have; got "
                f"{', '.join(action.given)}. Set data.unlabelled to ignore, or model.action.given to []"
            )
        if data.unlabelled == "pseudo_labels" and not self.train.ema:
            raise ValueError(
                "data.unlabelled pseudo_labels needs a teacher, the moving average of the weights; got train.ema 0. "
                "Set train.ema, for example to 0.99"
            )
        augment = data.augment
        extents = augment.model_dump(exclude={"views"})
        if data.unlabelled == "pseudo_labels" and (augment.views in (0, 1) or not any(extents.values())):
            raise ValueError(
                "data.unlabelled pseudo_labels needs three different images of a clip; got data.augment.views "
                f"{'none' if augment.views is None else augment.views} and a largest extent of data.augment of "
                f"{max(extents.values()):g}. Set data.augment.views to none or to 2 or more, and an extent above 0"
            )
        return self

    @model_validator(mode="after")
    def _features_do_not_depend_on_a_compiler(self) -> Config:
        if self.train.compile == "on" and not (self.model.backbone.trained or self.on_features):
            raise ValueError(
                "train.compile on needs a trained encoder or stored features, as the features of a frozen encoder must "
                "not depend on a compiler; got model.backbone.trained false and data.augment.views none. Set "
                "data.augment.views to 0, or train.compile to off"
            )
        return self

    @property
    def on_features(self) -> bool:
        """True if the model trains on stored features: the encoder is frozen, and no image is augmented anew."""
        return not self.model.backbone.trained and self.data.augment.views is not None

    def fingerprint(self) -> str:
        """Return 12 hexadecimal digits that are equal exactly for configurations that must have equal results."""
        plain = self.model_dump(mode="json", exclude={"runtime"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


ConfigT = TypeVar("ConfigT", bound=Section)


def flatten(config: Section) -> dict[str, Value]:
    """Return {dotted path: plain value} of every field, in the order of this page."""
    return dict(_leaves(config.model_dump(mode="json"), type(config), ""))


def changed(config: Section, base: Section) -> dict[str, Value]:
    """Return the fields in which ``config`` differs from ``base``: {dotted path: value in config}."""
    before = flatten(base)
    return {path: value for path, value in flatten(config).items() if value != before[path]}


def plain_value(value: Any) -> Any:
    """Return a value as plain data: mappings and configurations as dicts, sequences as lists, NumPy values as Python's.

    >>> plain_value({"optim.lr": (1e-4, 1e-3)})
    {'optim.lr': [0.0001, 0.001]}
    """
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {key: plain_value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return value.tolist() if type(value).__module__ == "numpy" else value


def override(config: ConfigT, values: Mapping[str, Value]) -> ConfigT:
    """Return a new configuration with some fields changed: {dotted path: value}.

    Raises:
        ConfigError: some paths are unknown, or values have a wrong type or are out of range; one error lists all.
    """
    known = flatten(config)
    problems = [unknown(path, known) for path in values if path not in known]
    plain = config.model_dump(mode="json")
    for path, value in values.items():
        if path in known:
            _put(plain, path, plain_value(value))
    valid, faults = _validate(type(config), plain)
    problems += faults
    if problems or valid is None:
        raise ConfigError.of(problems)
    return valid


def from_plain(plain: Mapping[str, Any], kind: type[ConfigT] = Config) -> ConfigT:  # type: ignore[assignment]
    """Return a configuration from nested plain data, as from ``model_dump`` or a YAML file."""
    valid, problems = _validate(kind, plain)
    if problems or valid is None:
        raise ConfigError.of(problems)
    return valid


def to_yaml(config: Section) -> str:
    """Return the configuration as YAML text; the inverse of ``from_yaml``."""
    return yaml_text.dump(config.model_dump(mode="json"))


def from_yaml(text: str, name: str = "the YAML text") -> Config:
    """Return the configuration of a YAML text: a whole one, or a ``best.yaml`` with a ``config`` key.

    Raises:
        ConfigError: invalid YAML, no mapping, unknown fields or wrong values.
    """
    plain = yaml_text.load_words(text, name)
    if isinstance(plain, dict) and "config" in plain:
        plain = plain["config"]
    if not isinstance(plain, dict):
        raise ConfigError(f"Invalid configuration in {name}: expected a mapping of sections, got {shown(plain)}.")
    return from_plain(_read_sections(plain, Config))


def read(path: str | Path) -> Config:
    """Return the configuration in a YAML file; see ``from_yaml``."""
    return from_yaml(yaml_text.read(path), str(path))


def parse_set(assignments: list[str], option: str = "--set") -> dict[str, Value]:
    """Return {path: value} from ``path=value`` arguments; the type of a field says how its text is parsed.

    >>> parse_set(["optim.lr=1e-4", "model.action.cues=[feature, hands]", "optim.clip_norm=none"])
    {'optim.lr': 0.0001, 'model.action.cues': ['feature', 'hands'], 'optim.clip_norm': None}
    """
    values: dict[str, Value] = {}
    problems = []
    for word in assignments:
        path, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not path:
            problems.append(f"Invalid {option} {shown(word)}: expected path=value, such as optim.lr=1e-4")
        elif path in values:
            problems.append(f"Duplicate {option} {shown(path, quoted=False)}: each field may be given once")
        else:
            values[path] = read_value(path, yaml_text.Word(text))
    if problems:
        raise ConfigError.of(problems)
    return values


def read_value(path: str, written: Any) -> Value:
    """Return the value of a text in the field at a path; a text that the field cannot parse is returned as it is.

    Args:
        path: dotted path; for an unknown path the text is returned as it is.
        written: a ``Word`` (without quotation marks), a text with them, a list of these, or another value.
    """
    *sections, name = path.split(".")
    kind: Any = Config
    for section in sections:
        field = kind.model_fields.get(section)
        kind = field.annotation if field and _is_section(field.annotation) else BaseModel
    field = kind.model_fields.get(name)
    return _read_value(written, field.annotation) if field else written


def unknown(path: str, known: Mapping[str, Value] | list[str]) -> str:
    """Return the error sentence for an unknown path."""
    return f"{shown(path, quoted=False)}: no such field.{did_you_mean(path, list(known))}"


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _read_value(written: Any, annotation: Any) -> Value:
    kind, optional = _kind(annotation)
    if optional and isinstance(written, yaml_text.Word) and written.lower() in ("none", "null"):
        return None
    if kind is tuple and isinstance(written, str):
        written = [word.strip().strip("'\"") for word in written.strip("[]").split(",") if word.strip()]
    if isinstance(written, list):
        element = _element(annotation)
        return [_read_value(each, element) for each in written]
    if not isinstance(written, str):
        return written
    if kind is bool:
        return _TRUTH.get(written.lower(), str(written))
    if kind is int and re.fullmatch(r"[+-]?[0-9]{1,30}", written):
        return int(written)
    if kind is float:
        try:
            return float(written)
        except ValueError:
            pass
    return str(written)


def _kind(annotation: Any) -> tuple[Any, bool]:
    """Return the plain type of a field, and whether it may be None."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return _kind(next(each for each in inner if each is not NoneType))[0], NoneType in inner
    return {None: annotation, Literal: str}.get(origin, origin), False


def _element(annotation: Any) -> Any:
    """Return the type of the elements of a field that is a list; str for another field."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _element(next(each for each in inner if each is not NoneType))
    return _element(inner[0]) if origin is Annotated else inner[0] if origin is tuple else str


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _read_sections(plain: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """Return the sections of a file, each text parsed by its field."""
    read: dict[str, Any] = {}
    for name, written in plain.items():
        field = kind.model_fields.get(name)
        if field is None:
            read[name] = written
        elif _is_section(field.annotation):
            read[name] = _read_sections(written, field.annotation) if isinstance(written, dict) else written
        else:
            read[name] = _read_value(written, field.annotation)
    return read


def _leaves(plain: Mapping[str, Any], kind: type[BaseModel], prefix: str) -> Iterator[tuple[str, Value]]:
    for name, value in plain.items():
        inner = kind.model_fields[name].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _leaves(value, inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _put(plain: dict[str, Any], path: str, value: Value) -> None:
    *sections, name = path.split(".")
    for section in sections:
        plain = plain[section]
    plain[name] = value


def _validate(kind: type[ConfigT], plain: Mapping[str, Any]) -> tuple[ConfigT | None, list[str]]:
    try:
        return kind.model_validate(plain), []
    except ValidationError as error:
        known = list(flatten(kind()))
        return None, [_sentence(fault, known) for fault in error.errors(include_url=False)]


def _sentence(fault: Any, known: list[str]) -> str:
    path = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return unknown(path, known)
    text = fault["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if fault["type"] == "value_error":
        return text if not path or text.startswith("model.") else f"{path}: {text}"
    return f"{path}: {text}; got {shown(fault['input'])}"
