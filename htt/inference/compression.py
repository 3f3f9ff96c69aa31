"""Comparison of trained models in several forms: size, latency, hand error and action accuracy, on the same clips.

A form is a model in PyTorch (fp32, bf16) or exported for ONNX Runtime (fp32, int8). Every form is evaluated as by
``htt.evaluate``, and timed as the metric ``latency_ms``: the prediction of the clip of median length.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from htt import console, files
from htt.config import Config, DataConfig
from htt.data.loading.clips import Clips
from htt.data.loading.splits import open_named
from htt.data.location import cache_folder
from htt.data.prepare import prepare
from htt.errors import ConfigError
from htt.evaluation.cost import latency_ms, median_clip
from htt.evaluation.intervals import sampled
from htt.evaluation.metric_table import METRICS
from htt.evaluation.report import NOTHING
from htt.evaluation.scores import Scores, reservations, scores
from htt.group import Group, best_device
from htt.inference import export
from htt.neighbours import Neighbours
from htt.text import code, csv, plural
from htt.training import checkpoint as checkpoints
from htt.training.loading import check_info
from htt.training.loop import Precision, evaluate
from htt.training.tasks import check_given

REPORT, NUMBERS = "compression.md", "compression.csv"
SHOWN = ("hand_error_mm", "action_accuracy")
"""Metrics of the table."""
IN_PYTORCH = ("fp32", "bf16")
IN_ONNX: tuple[export.Precision, ...] = ("fp32", "int8")


@dataclass(frozen=True)
class Row:
    """One form of a model, and its measurements."""

    model: str
    form: str
    """Library and arithmetic, such as "ONNX Runtime int8"."""
    device: str
    size_mb: float
    """Size of the file with the weights, 10^6 bytes."""
    latency_ms: float
    frames_per_s: float
    scores: Scores


def compare(folders: Sequence[Path], data: DataConfig, split: str, out: Path) -> Iterator[Row]:
    """Yield a row for each form of each model; exported files are written to ``out``.

    A form that this machine or the model does not allow is left out, with a sentence.

    Args:
        folders: checkpoints to compare.
        data: the clips to evaluate; how a clip is cut is each model's own configuration.
        split: split to evaluate. int8 is calibrated on training clips of the same data.
        out: folder for the exported files.

    Raises:
        CheckpointError: a model was trained for other classes, hands or image sizes than the data's.
        DataError: there is no such split, or it lacks labels that a model needs.
    """
    for folder, name in zip(folders, names(folders), strict=True):
        saved = checkpoints.read(folder)
        config = on_data(saved.config, data)
        clips = open_named(prepare(config), split, config.data)
        check_info(folder, saved.info, clips.info)
        check_given(config, clips)
        for form in _forms(folder, name, config, out):
            console.out.print(f"Evaluating {name}, {form.label}, on {split} ...")
            yield _measured(name, form, clips, config)


@dataclass(frozen=True)
class _Form:
    """A model that can be evaluated."""

    label: str
    model: nn.Module
    group: Group
    precision: Precision
    size_mb: float


def _forms(folder: Path, name: str, config: Config, out: Path) -> Iterator[_Form]:
    """Yield the forms of a model that are possible here."""
    model, _ = checkpoints.load(folder)
    device, cpu = best_device(), torch.device("cpu")
    for precision in IN_PYTORCH:
        label = f"PyTorch {precision}"
        with _left_out(name, label):
            arithmetic = Precision(precision, device)
            yield _Form(
                label, model.to(device), Group(device=device), arithmetic, _megabytes(folder / checkpoints.MODEL)
            )
    for kind in IN_ONNX:
        label, file = f"ONNX Runtime {kind}", out / f"{name}-{kind}.onnx"
        with _left_out(name, label):
            export.check(config.model, file, "onnx", kind)
            calibration = export.calibration_windows(config, folder) if kind == "int8" else ()
            export.export(model.to(cpu), file, "onnx", kind, calibration)
            yield _Form(label, export.load(file), Group(device=cpu), Precision("fp32", cpu), _megabytes(file))


@contextlib.contextmanager
def _left_out(name: str, label: str) -> Iterator[None]:
    """Print why a form has no row, in place of a ``ConfigError``."""
    try:
        yield
    except ConfigError as error:
        console.print_message("note:", f"{name}, {label}, is left out: {error}")


def _measured(name: str, form: _Form, clips: Clips, config: Config) -> Row:
    evaluation = evaluate(form.model, clips, config, group=form.group, precision=form.precision)
    found = scores(
        evaluation, clips.split, subjects=clips.subjects, groups=clips.groups, reservations=reservations(config)
    )
    device = form.group.device
    batches = [batch.to(device) for batch in median_clip(clips, config)]
    with Neighbours(cache_folder(config)) as neighbours, neighbours.waiting():
        latency = latency_ms(form.model, batches, form.precision.autocast, device)
    frames = sum(len(batch.frames) for batch in batches)
    return Row(name, form.label, device.type, form.size_mb, latency, 1000 * frames / latency, found)


def _megabytes(file: Path) -> float:
    return file.stat().st_size / 1e6


def names(folders: Sequence[Path]) -> list[str]:
    """Return a name for each checkpoint: that of its run, or its own; a number is added to equal names."""
    own = [folder.resolve().parent.name if folder.name == "checkpoint" else folder.name for folder in folders]
    return [f"{name}-{own[: place + 1].count(name)}" if own.count(name) > 1 else name for place, name in enumerate(own)]


def on_data(config: Config, data: DataConfig) -> Config:
    """Return a model's configuration with other clips, which are cut into windows as before."""
    fields = {name: getattr(data, name) for name in ("source", "root", "synthetic", "held_out")}
    return config.model_copy(update={"data": config.data.model_copy(update=fields)})


def write(folder: Path, rows: Sequence[Row], command: str) -> None:
    """Write the table as Markdown and as CSV.

    Raises:
        StorageError: the disk is full or not writable.
    """
    first = rows[0].scores
    lines = [
        "# Forms of trained models",
        "",
        code(command),
        "",
        *(f"| {' | '.join(cells)} |" for cells in [heads(), ["---"] * len(heads()), *map(cells_of, rows)]),
        "",
        f"- Split {first.split}: {sampled(len(first.sums.clip), first.groups)}, the same for all rows.",
        "- Size: the file with the weights. Latency: the median prediction of the clip of median length on the device, "
        f"with {plural(torch.get_num_threads(), 'thread')} on a CPU; images are decoded before.",
        "- int8 is calibrated on training clips. ONNX Runtime predicts one window after the other.",
        *(f"- {note}" for note in dict.fromkeys(note for row in rows for note in row.scores.warnings)),
    ]
    files.write_text(folder / REPORT, "\n".join(lines) + "\n")
    numbers = [
        [row.model, row.form, row.device, row.size_mb, row.latency_ms, row.frames_per_s, *_values(row)] for row in rows
    ]
    columns = ["model", "form", "device", "size_mb", "latency_ms", "frames_per_s"]
    columns += [f"{name}{end}" for name in SHOWN for end in ("", "_low", "_high")]
    files.write_text(folder / NUMBERS, csv(columns, numbers))


def heads() -> list[str]:
    """Return the heads of the table."""
    measured = [head for name in SHOWN for head in (METRICS[name].title, "95 % interval")]
    return ["Model", "Form", "Device", "Size", METRICS["latency_ms"].title, "Frames/s", *measured]


def cells_of(row: Row) -> list[str]:
    """Return the cells of a row, in the order of ``heads``."""
    cells = [row.model, row.form, row.device, f"{row.size_mb:.1f} MB", METRICS["latency_ms"].number(row.latency_ms)]
    cells.append(f"{row.frames_per_s:,.0f}")
    values = _values(row)
    for place, name in enumerate(SHOWN):
        value, low, high = values[3 * place : 3 * place + 3]
        cells.append(NOTHING if math.isnan(value) else METRICS[name].number(value))
        cells.append(NOTHING if math.isnan(low) else METRICS[name].span(low, high))
    return cells


def _values(row: Row) -> list[float]:
    """Return value, lower and upper end of the interval of each metric; NaN if it is unknown."""
    known = {score.metric: score for score in row.scores.scores}
    found: list[float] = []
    for name in SHOWN:
        score = known.get(name)
        found += [score.value if score else math.nan, *((score and score.interval) or (math.nan, math.nan))]
    return found
