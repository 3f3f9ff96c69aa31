"""Every knob on one page. The defaults are the paper's recipe for H2O, as its authors released it.

A configuration is a frozen tree of plain values. It is never edited: ``override(config, {"optim.lr": 1e-4})`` gives a
new one, validated whole, with ONE error that lists every offender and the nearest right name. The same function serves
``--set`` on a command line, a sample of a search and a variant of an ablation, so a value means the same everywhere.

``runtime`` holds what cannot change a result (paths, processes, logging). ``fingerprint`` hashes all the rest: it names
trials, finds duplicates and guards a resume. Facts of a data set (classes, hands, image size, camera) are no
configuration: they come with the data, as ``htt.batch.DataInfo``.

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

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from htt import yaml_text
from htt.errors import ConfigError, did_you_mean, shown

Value = Any
"""A plain value a field can take: bool, int, float, str, None, or a list of them."""


def _is_readable(text: str) -> str:
    if not text.strip() or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise ValueError(f"must be text, without control characters; got {shown(text)}. For no value, write none")
    return text


MOST = 1e6
"""The largest of the numbers that nothing else bounds: far beyond use, and small enough to compute with."""
SIZE = 2**16
"""The largest width, depth or length of a network's parts, image sides and frames included."""

Text = Annotated[str, AfterValidator(_is_readable)]
Positive = Annotated[int, Field(ge=1, le=1_000_000_000)]
Size = Annotated[int, Field(ge=1, le=SIZE)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Weight = Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]

PLUGIN = r"^[a-z][a-z0-9_]*$"


class Section(BaseModel):
    """A frozen group of fields; an unknown field is an error, and a number is never read from a word."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True
    )


class SyntheticConfig(Section):
    """The rendered benchmark, used when ``data.source`` is synthetic and no ``data.root`` is given."""

    train_clips: Positive = 324
    """Clips to train on; a multiple of 36 gives every action alike."""
    val_clips: Positive = 72
    """Clips to select by: other subjects, rooms, objects and head paths than the training clips."""
    test_clips: Positive = 72
    """Clips looked at once, by the final evaluation."""
    frames: Annotated[int, Field(ge=4, le=SIZE)] = 32
    """Frames of the longest clip, at 15 frames/s; clips have 0.6 to 1.0 of them."""
    width: Annotated[int, Field(ge=32, le=SIZE)] = 96
    """Image width, px."""
    height: Annotated[int, Field(ge=32, le=SIZE)] = 54
    """Image height, px."""
    seed: Seed = 0
    """Determines every pixel."""


class AugmentConfig(Section):
    """What training images go through; colours and crops are shared by the frames of a window. Source: paper."""

    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.15
    """Largest turn of the hue, in turns of the colour circle."""
    saturation: Fraction = 0.5
    """Largest relative change."""
    contrast: Fraction = 0.5
    """Largest relative change."""
    brightness: Fraction = 0.5
    """Largest relative change."""
    centre: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift of the image, along each axis, as a fraction of its width; 2D targets move along."""
    blur_px: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Largest radius (standard deviation) of the Gaussian blur, px, drawn anew for every frame."""


class DataConfig(Section):
    """Which clips, and how they are cut into windows of frames."""

    source: Annotated[str, Field(pattern=PLUGIN)] = "synthetic"
    """The kind of data: a module of htt/data/sources."""
    root: Text | None = None
    """Folder or URI of converted shards; none: the synthetic benchmark, rendered once and cached."""
    spacing: Size = 2
    """Every how many-th frame of a clip is taken (2: H2O's 30 frames/s become 15). Source: paper."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the training clips that validate, where the data have no validation split (FPHA); the paper trains on
    all of them: 0."""
    shifted_starts: bool = True
    """Train on windows from every start offset, not only from those evaluation uses. Source: paper."""
    augment: AugmentConfig = AugmentConfig()
    synthetic: SyntheticConfig = SyntheticConfig()


class BackboneConfig(Section):
    """The image encoder: one frame -> one feature."""

    name: Text = "resnet18"
    """A module of htt/model/backbones, or a vision model of the hub ("facebook/dinov2-small") or a local folder."""
    weights: Text | None = None
    """Where its weights come from: a local file or folder, or a hub name; none: random, and then ``batch_norm`` should
    be live. The paper's are ImageNet's, as in "timm/resnet18.tv_in1k"."""
    batch_norm: Literal["frozen", "live"] = "frozen"
    """Frozen: stored statistics are used and kept while training. Source: the released code trains in eval mode."""
    normalise: Literal["centre", "imagenet"] = "centre"
    """Pixels become value/255 - 0.5 (centre, as released) or ImageNet's mean and deviation (most hub models)."""


class BlockConfig(Section):
    """A temporal block: tokens in, tokens out."""

    block: Annotated[str, Field(pattern=PLUGIN)] = "transformer"
    """A module of htt/model/blocks: transformer, lstm, mean or identity."""
    depth: Size = 2
    """Layers. Source: paper."""
    heads: Size = 8
    """Attention heads; divide model.width. Source: paper."""
    feedforward: Size = 2048
    """Width of the feed-forward layers. Source: paper."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping a value while training. Source: released configuration."""


class PoseConfig(BlockConfig):
    """Block P: short windows of frames -> the hands and the object of each frame."""

    window: Size = 16
    """Frames block P sees at once (t in the paper)."""
    pixel_scale: Above0 = 100.0
    """px per unit of the pose head's x and y, around the image centre. Source: released code."""
    depth_scale_m: Above0 = 1e-4
    """Metres per unit of the pose head's depth and per px of focal length. Source: released code."""
    depth_offset_m: Annotated[float, Field(ge=-MOST, le=MOST)] = 0.4
    """Depth of a joint where the pose head says 0, m. Source: released code."""
    back_projection: Literal["focal_x", "both"] = "focal_x"
    """Focal length used along y: f_x for both axes (as released), or each its own."""


class ActionConfig(BlockConfig):
    """Block A: the whole window of a clip -> its action."""

    length: Size = 128
    """Frames block A sees at most (T in the paper)."""
    cues: Annotated[tuple[Literal["feature", "hands", "object"], ...], Field(strict=False)] = (
        "feature",
        "hands",
        "object",
    )
    """What block A is told of each frame. Source: paper, section 3.3."""
    hands: Literal["2d", "3d"] = "2d"
    """The pose head's output block A sees: x and y, or x, y and depth."""

    @model_validator(mode="after")
    def _cues_differ(self) -> ActionConfig:
        if not self.cues or len(set(self.cues)) != len(self.cues):
            raise ValueError(f"must list at least one cue, each once; got {list(self.cues)}")
        return self


class ModelConfig(Section):
    """The network."""

    width: Size = 512
    """Width of every token (d in the paper)."""
    backbone: BackboneConfig = BackboneConfig()
    pose: PoseConfig = PoseConfig()
    action: ActionConfig = ActionConfig()

    @model_validator(mode="after")
    def _heads_divide_width(self) -> ModelConfig:
        fitting = [str(heads) for heads in range(1, min(self.width, 64) + 1) if self.width % heads == 0]
        for name, part in (("pose", self.pose), ("action", self.action)):
            if part.block == "transformer" and self.width % part.heads:
                raise ValueError(
                    f"model.{name}.heads must divide model.width; got {part.heads} and {self.width}. "
                    f"Heads that do: {', '.join(fitting)}"
                )
        return self


class LossConfig(Section):
    """Weights of the terms of the loss. Source: paper, section 3.4, in the released code's units."""

    joints_px: Weight = 1.0
    """Mean absolute 2D error of a joint, per px."""
    depth_m: Weight = 100.0
    """Mean absolute depth error of a joint, per m."""
    object: Weight = 1.0
    """Cross entropy of each frame's object."""
    action: Weight = 1.0
    """Cross entropy of the clip's action."""


class OptimConfig(Section):
    """How the weights move. Source of the defaults: paper, section 4."""

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Above0 = 3e-5
    """Learning rate."""
    weight_decay: Weight = 0.0
    """Decoupled with adamw, added to the gradient otherwise."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """For sgd alone."""
    schedule: Literal["constant", "step", "cosine"] = "step"
    step_epochs: Positive = 15
    """Epochs between two steps of the step schedule."""
    step_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The learning rate's factor at each step; a related paper uses 0.1."""
    warmup_epochs: Weight = 0.0
    """Epochs over which the rate rises linearly from 0; fractions allowed."""
    clip_norm: Above0 | None = None
    """Largest norm of the gradient; none: no limit."""


class TrainConfig(Section):
    """How long, how much at once, how exact."""

    epochs: Positive = 45
    """Passes over the training windows. Source: paper."""
    batch_size: Positive = 2
    """Windows in a step, over all workers; with scaling linear, of each worker. Source: paper."""
    scaling: Literal["none", "linear"] = "none"
    """What several workers change. none: nothing, they share the step that one would take (each draws its own
    augmentation and dropout). linear: batch and learning rate are multiplied by the number of workers (linear scaling
    rule, Goyal et al. 2017, section 2.1)."""
    seed: Seed = 0
    """Determines weights, order and augmentation."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; a device without it says so."""
    windows_per_epoch: Positive | None = None
    """Train on that many windows an epoch, drawn anew each time; none: on all of them."""


class RuntimeConfig(Section):
    """What cannot change a result."""

    cache: Text | None = None
    """Folder for rendered and downloaded data; none: $HTT_CACHE, or ~/.cache/htt."""
    cache_gb: Above0 | None = None
    """Most GB (10^9 bytes) of each machine's disk for downloaded shards; none: all it has. Shards in use stay."""
    loader_workers: Count = 0
    """Processes that decode images, for each training worker; 0: the training process itself."""
    tensorboard: bool = True
    """Write scalars, the configuration and a few drawn predictions of each epoch."""
    overlays: Count = 4
    """Drawn predictions an epoch, in TensorBoard."""
    keep_checkpoints: Positive = 1
    """Newest checkpoints kept; two at least, since one may be damaged."""
    resize_minutes: Above0 = 1.0
    """A final training with fewest and most workers looks that often for room for more of them."""
    save_minutes: Above0 | None = 10.0
    """A final training also saves itself within an epoch, that often; none: only where a machine says it will go."""


class Config(Section):
    """One training, completely."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def fingerprint(self) -> str:
        """12 hexadecimal digits that are equal for two configurations just when their results must be."""
        plain = self.model_dump(mode="json", exclude={"runtime"})
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


ConfigT = TypeVar("ConfigT", bound=Section)


def flatten(config: Section) -> dict[str, Value]:
    """{dotted path: plain value} of every field, in the page's order."""
    return dict(_leaves(config.model_dump(mode="json"), type(config), ""))


def changed(config: Section, base: Section) -> dict[str, Value]:
    """The fields in which ``config`` differs from ``base``: {dotted path: value in config}."""
    before = flatten(base)
    return {path: value for path, value in flatten(config).items() if value != before[path]}


def plain_value(value: Any) -> Value:
    """A value of numpy, or a list of such, as Python's own: a space may be written with ``np.logspace``."""
    if isinstance(value, list | tuple):
        return type(value)([plain_value(each) for each in value])
    return value.tolist() if type(value).__module__ == "numpy" else value


def override(config: ConfigT, values: Mapping[str, Value]) -> ConfigT:
    """A new configuration with some fields changed: {dotted path: value}.

    Raises:
        ConfigError: one error for all unknown paths and all values of a wrong type or out of range.
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
    """A configuration from nested plain data, as ``model_dump`` or a YAML file gives it."""
    valid, problems = _validate(kind, plain)
    if problems or valid is None:
        raise ConfigError.of(problems)
    return valid


def to_yaml(config: Section) -> str:
    """The configuration as YAML text; ``from_yaml`` gives it back."""
    return yaml_text.dump(config.model_dump(mode="json"))


def from_yaml(text: str, name: str = "the YAML text") -> Config:
    """A configuration from YAML text: a whole one, or a ``best.yaml`` with a ``config`` key.

    Raises:
        ConfigError: no YAML, no mapping, unknown fields or wrong values.
    """
    plain = yaml_text.load_words(text, name)
    if isinstance(plain, dict) and "config" in plain:
        plain = plain["config"]
    if not isinstance(plain, dict):
        raise ConfigError(f"{name} must hold a mapping of sections; got {shown(plain)}.")
    return from_plain(_read_sections(plain, Config))


def read(path: str | Path) -> Config:
    """The configuration in a YAML file; see ``from_yaml``."""
    return from_yaml(yaml_text.read(path), str(path))


def parse_set(assignments: list[str], option: str = "--set") -> dict[str, Value]:
    """{path: value} from the ``path=value`` words of a command line; the field's type says what a text means.

    >>> parse_set(["optim.lr=1e-4", "model.action.cues=[feature, hands]", "optim.clip_norm=none"])
    {'optim.lr': 0.0001, 'model.action.cues': ['feature', 'hands'], 'optim.clip_norm': None}
    """
    values: dict[str, Value] = {}
    problems = []
    for word in assignments:
        path, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not path:
            problems.append(f"{option} takes path=value, such as optim.lr=1e-4; got {shown(word)}")
        elif path in values:
            problems.append(f"{option} takes each field once; {shown(path, quoted=False)} is given twice")
        else:
            values[path] = read_value(path, yaml_text.Word(text))
    if problems:
        raise ConfigError.of(problems)
    return values


def read_value(path: str, written: Any) -> Value:
    """What a text means in the field at a path; a text that the field cannot take stays a text.

    Args:
        path: dotted; of one that is no field, the text stays as it is.
        written: a ``Word`` (without quotation marks), a text with them, a list of them, or a value that is none.
    """
    *sections, name = path.split(".")
    kind: Any = Config
    for section in sections:
        field = kind.model_fields.get(section)
        kind = field.annotation if field and _is_section(field.annotation) else BaseModel
    field = kind.model_fields.get(name)
    return _read_value(written, field.annotation) if field else written


def unknown(path: str, known: Mapping[str, Value] | list[str]) -> str:
    """The sentence for a path that is no field."""
    return f"{shown(path, quoted=False)}: there is no such field.{did_you_mean(path, list(known))}"


_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def _read_value(written: Any, annotation: Any) -> Value:
    kind, optional = _kind(annotation)
    if kind is tuple and isinstance(written, str):
        written = [word.strip().strip("'\"") for word in written.strip("[]").split(",") if word.strip()]
    if isinstance(written, list):
        return [str(each) if isinstance(each, str) else each for each in written]
    if not isinstance(written, str):
        return written
    if optional and isinstance(written, yaml_text.Word) and written.lower() in ("none", "null"):
        return None
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
    """The plain type of a field, and whether it may have no value."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, UnionType):
        return _kind(next(each for each in inner if each is not NoneType))[0], NoneType in inner
    return {None: annotation, Literal: str}.get(origin, origin), False


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _read_sections(plain: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """The sections of a file, each text read by its field."""
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
        return text if text.startswith("model.") else f"{path}: {text}"
    return f"{path}: {text}; got {shown(fault['input'])}"
