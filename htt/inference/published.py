"""Published models: folders of weights, configuration and model card, found by their path or their hub name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from htt import files, yaml_text
from htt.config import Config, flatten, override, to_yaml
from htt.errors import CheckpointError, ConfigError, DataError
from htt.evaluation.intervals import sampled
from htt.evaluation.metric_table import EVALUATED
from htt.evaluation.report import METRICS_FILE, NAMES
from htt.hand import hand_names
from htt.model import backbones
from htt.model.weights import RECORD
from htt.registry import names
from htt.text import block, code, escaped, plural
from htt.training.checkpoint import MODEL, Checkpoint, load, save_for_use

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""Owner and model of the hub."""


def checkpoint_folder(source: str | Path) -> Path:
    """Return the folder of a checkpoint or published model; one of the hub is downloaded to its cache.

    Raises:
        CheckpointError: it is a file, or a hub name that is not in the cache and cannot be downloaded.
    """
    path = Path(source).expanduser()
    if path.is_file():
        raise CheckpointError(
            f"Invalid checkpoint {path}: expected the folder that a training or python -m htt.publish wrote, got "
            "a file."
        )
    if path.exists() or not _HUB_NAME.fullmatch(str(source)):
        return path
    from htt.model.backbones._hub import hub_file  # transformers' Auto classes are slow to import

    hub_file(str(source), MODEL, "--checkpoint")
    return hub_file(str(source), RECORD, "--checkpoint").parent


CARD, CONFIG = "README.md", "config.yaml"
USE = """from htt.inference import Predictor

predictor = Predictor.load("FOLDER_OR_HUB_NAME")
result = predictor(frames, intrinsics)  # RGB frames [n h w 3], camera matrix [3 3] in pixels
print(result.joints_m.shape, result.top_actions())"""
TERMS = {
    "synthetic": "Rendered by the project; no recordings of people.",
    "h2o": "Recordings of people; see the terms on the page of the data set before you use or share this model.",
    "fpha": "Recordings of people for academic research, not commercial, without redistribution.",
}
"""{source: sentence on the terms of its data}"""


def publish(
    checkpoint: Path, out: Path, *, evaluations: Sequence[Path] = (), licence: str | None = None
) -> Sequence[Path]:
    """Write a model folder: weights, configuration and model card; return the evaluations in the card.

    Paths of this machine are left out of the configuration. ``Predictor.load`` opens the folder; a training can start
    from it (``model.weights``), but not resume.

    Args:
        checkpoint: folder of a checkpoint.
        out: folder to write; it must be new or empty.
        evaluations: folders that ``htt.evaluate`` wrote; if empty, those beside the checkpoint.
        licence: licence of the weights, or None if it is not stated.

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        ConfigError: the output folder has files.
        DataError: an evaluation cannot be read, or is of other data than the model's.
        StorageError: the disk is full or not writable.
    """
    model, record = load(checkpoint_folder(checkpoint))
    _check_new(out)
    beside = checkpoint.resolve().parent.glob(f"evaluation-*/{METRICS_FILE}")
    folders = list(evaluations) or [path.parent for path in sorted(beside)]
    results = [_read(folder, record) for folder in folders]
    config = without_paths(record.config)
    card = _card(replace(record, config=config), results, licence, sum(each.numel() for each in model.parameters()))
    with files.writing(out):
        _check_new(out)  # another process may have written it meanwhile
        save_for_use(out, model, config, record, {CARD: card, CONFIG: to_yaml(config)})
    return folders


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out must be a new or empty folder; {out} has files. Choose another name.")


def without_paths(config: Config) -> Config:
    """Return a configuration without paths of this machine; an encoder and its weights keep the name of their file."""
    name, weights = config.model.backbone.name, config.model.backbone.weights
    local = name not in names(backbones) and _is_local(name)
    values = {
        "data.root": None,
        "model.weights": None,
        "model.backbone.name": f"./{Path(name).name}" if local else name,
        "model.backbone.weights": Path(weights).name if weights and _is_local(weights) else weights,
        **{f"runtime.{name}": value for name, value in flatten(Config().runtime).items()},
    }
    return override(config, values)


def _is_local(name: str) -> bool:
    """Return whether a name of an encoder or of its weights is a path of this machine."""
    return name.startswith(("/", "~", ".", "file:")) or Path(name).exists()


def _read(folder: Path, record: Checkpoint) -> dict[str, Any]:
    """Return the content of an evaluation's ``metrics.json``."""
    path = folder / METRICS_FILE
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        source, _, _ = plain["source"], plain["split"], dict(plain["metrics"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Cannot read {path}: {error!r}. Give a folder that python -m htt.evaluate wrote.") from error
    if source != record.info.source:
        raise DataError(f"The evaluation {folder} is of {source}, and the model is of {record.info.source}. Drop it.")
    return dict(plain)


def _card(record: Checkpoint, results: Sequence[Mapping[str, Any]], licence: str | None, parameters: int) -> str:
    """Return the model card as Markdown, with the header that the hub reads."""
    info, model, spacing = record.info, record.config.model, record.config.data.spacing
    name = NAMES.get(info.source, info.source)
    hands = " and ".join(hand_names(info.hands)) + (" hand" if info.hands == 1 else " hands")
    header = {"license": licence or "other", "tags": ["hand-pose", "action-recognition", "egocentric"]}
    seen = f"{model.action.length} frames at {info.frame_rate / spacing:g} frames/s"
    parts = [
        f"---\n{yaml_text.dump(header).strip()}\n---",
        f"# HTT, trained on {escaped(name)}",
        "Hierarchical Temporal Transformer (Wen et al., CVPR 2023): from egocentric RGB video to the 3D joints of the "
        "hands and the object of each frame, and the action of each window of frames.",
        "## Use",
        block(USE, "python"),
        f"On a video: {code('python -m htt.predict --checkpoint FOLDER_OR_HUB_NAME --video FILE --fov DEGREES')}",
        "## Model",
        f"- Encoder {code(model.backbone.name)}, {parameters:,} parameters, trained for "
        f"{plural(record.progress.epoch, 'epoch')}.\n"
        f"- Images of {info.width}x{info.height} px. Block P sees {plural(model.pose.window, 'frame')} at once, "
        f"block A {seen}.\n"
        f"- Output: {info.joints} joints of the {hands} in pixels and in metres of camera space, "
        f"{plural(len(info.objects), 'object')}, {plural(len(info.actions), 'action')}.",
        "## Data",
        f"Trained on {escaped(name)}, {info.frame_rate:g} frames/s. {TERMS.get(info.source, '')}".strip(),
        f"- Objects: {', '.join(map(escaped, info.objects))}\n- Actions: {', '.join(map(escaped, info.actions))}",
        "## Numbers",
        *(_numbers(each) for each in results),
        *([] if results else [_unevaluated(record)]),
        "## Intended use and limits",
        LIMITS,
        "## Licence",
        f"Licence of the weights: {escaped(licence)}." if licence else "The licence of the weights is not stated; ask "
        "whoever published them before you use or share them.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


LIMITS = """\
- For research on hands and actions in egocentric video. Not for decisions about people, and not where a wrong pose or
  action can hurt somebody.
- Joints are predicted in every frame, also for a hand that is not in view; there is no confidence for a joint.
- One of the listed actions and objects is always predicted, also if something else happens.
- Depth assumes the given focal length and a camera without distortion. Other cameras, rooms and people than those of
  the training data cost accuracy that the numbers above do not show."""


def _numbers(plain: Mapping[str, Any]) -> str:
    """Return the table of an evaluation."""
    rows = ["| Metric | Value | 95 % interval |", "| --- | --- | --- |"]
    for name, score in plain["metrics"].items():
        if (about := EVALUATED.get(name)) and not name.startswith("loss"):
            span = about.span(score["low"], score["high"]) if score.get("low") is not None else "–"
            rows.append(f"| {about.title} | {about.number(score['value'])} | {span} |")
    of = sampled(plain.get("clips", 0), plain.get("groups") or plain.get("clips", 0))
    warnings = "".join(f"\n\n**{escaped(str(each))}**" for each in plain.get("warnings", ()))
    return f"Split {code(plain['split'])}: {of}.\n\n" + "\n".join(rows) + warnings


def _unevaluated(record: Checkpoint) -> str:
    """Return the validation metrics of the training, which have no intervals."""
    known = [(EVALUATED[name], value) for name, value in record.metrics.items()
             if name in EVALUATED and not name.startswith("loss")]  # fmt: skip
    rows = [f"| {about.title} | {about.number(value)} |" for about, value in known]
    if not rows:
        return "This model was not evaluated."
    head = "Validation clips during the training, without intervals; the model may have been chosen by them:"
    return "\n".join([head, "", "| Metric | Value |", "| --- | --- |", *rows])
