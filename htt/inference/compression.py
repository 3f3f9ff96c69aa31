"""Comparison of trained models in several forms: size, latency, hand error and action accuracy, on the same clips.

A form is a model in PyTorch (fp32, bf16) or exported for ONNX Runtime (fp32, int8). Every form is evaluated as by
``htt.evaluate``, and timed as the metric ``latency_ms``: the prediction of the clip of median length.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

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
from htt.evaluation.intervals import Interval, paired, sampled
from htt.evaluation.metric_table import METRICS
from htt.evaluation.scores import Scores, reservations, scores
from htt.group import Group, best_device
from htt.inference import export
from htt.neighbours import Neighbours
from htt.pages.table import Column, Table, csv
from htt.text import code, escaped, plural
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
    first: Row | None = None
    """Row that this one is compared with, or None for that row itself."""
    paired: Mapping[str, Interval] = field(default_factory=dict)
    """{metric: 95 % interval of its difference to the first row}"""


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
    first: Row | None = None
    for folder, name in zip(folders, names(folders), strict=True):
        saved = checkpoints.read(folder)
        config = on_data(saved.config, data)
        clips = open_named(prepare(config), split, config.data)
        check_info(folder, saved.info, clips.info)
        check_given(config, clips)
        for form in _forms(folder, name, config, out):
            console.out.print(f"Evaluating {name}, {form.label}, on {split} ...")
            row = _measured(name, form, clips, config)
            if first:
                row = replace(row, first=first, paired=_paired(row, first, clips))
            first = first or row
            yield row


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


def _paired(row: Row, first: Row, clips: Clips) -> dict[str, Interval]:
    sums = row.scores.sums
    return paired(sums, first.scores.sums, [clips.groups[clip] for clip in sums.clip.tolist()])


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
    """Write the tables as Markdown, and every number as CSV.

    Raises:
        StorageError: the disk is full or not writable.
    """
    first = rows[0]
    others = [f"Differences to {escaped(named(first))}, on the same clips:", "", differences(rows).markdown(), ""]
    lines = [
        "# Forms of trained models",
        "",
        code(command),
        "",
        table(rows).markdown(),
        "",
        *(others if len(rows) > 1 else []),
        f"- Split {first.scores.split}: {sampled(len(first.scores.sums.clip), first.scores.groups)}, the same for all "
        "rows. Intervals of differences are paired by clip: two rows may differ although their own intervals overlap.",
        "- Size: the file with the weights. Latency: the median prediction of the clip of median length on the device, "
        f"with {plural(torch.get_num_threads(), 'thread')} on a CPU; images are decoded before.",
        "- int8 is calibrated on training clips. ONNX Runtime predicts one window after the other.",
        *(f"- {note}" for note in dict.fromkeys(note for row in rows for note in row.scores.warnings)),
    ]
    files.write_text(folder / REPORT, "\n".join(lines) + "\n")
    files.write_text(folder / NUMBERS, csv([table(rows)]))


def named(row: Row) -> str:
    """Return the name of a row: its model and form."""
    return f"{row.model}, {row.form}"


def table(rows: Sequence[Row]) -> Table[Row]:
    """Return the table of all forms; its CSV has the differences to the first row, too."""
    latency = METRICS["latency_ms"]
    columns = [
        *_NAMES,
        Column("device", lambda row: row.device, "Device", number=False),
        Column("size_mb", lambda row: row.size_mb, "Size", "{:.1f} MB".format),
        Column("latency_ms", lambda row: row.latency_ms, latency.title, latency.number),
        Column("frames_per_s", lambda row: row.frames_per_s, "Frames/s", "{:,.0f}".format),
    ]
    for name in SHOWN:
        about = METRICS[name]
        columns += _columns(name, about.title, partial(_score, name), about.number, about.span)
        columns += _columns(
            f"{name}_difference", "", partial(_difference, name), about.difference, about.difference_span
        )
    return Table(columns, rows)


def differences(rows: Sequence[Row]) -> Table[Row]:
    """Return the table of the differences of each row to the first."""
    columns = list(_NAMES)
    for name in SHOWN:
        about = METRICS[name]
        columns += _columns(name, about.title, partial(_difference, name), about.difference, about.difference_span)
    return Table(columns, rows[1:])


_NAMES: list[Column[Row]] = [
    Column("model", lambda row: row.model, "Model", number=False),
    Column("form", lambda row: row.form, "Form", number=False),
]
Measured: TypeAlias = "tuple[Any, Any, Any]"
"""A value and the ends of its 95 % interval; "" for each that is unknown."""


def _columns(
    name: str,
    title: str,
    measured: Callable[[Row], Measured],
    number: Callable[[float], str],
    span: Callable[[float, float], str],
) -> list[Column[Row]]:
    """Return the columns of a value and its interval; with title "", they are for CSV alone."""

    def ends(row: Row) -> Any:
        low, high = measured(row)[1:]
        return low if low == "" else (low, high)

    return [
        Column(name, lambda row: measured(row)[0], title, number),
        Column(f"{name}_low", lambda row: measured(row)[1]),
        Column(f"{name}_high", lambda row: measured(row)[2]),
        Column("", ends, title and "95 % interval", lambda both: span(*both)),
    ]


def _score(name: str, row: Row) -> Measured:
    score = next((each for each in row.scores.scores if each.metric == name), None)
    return (score.value, *(score.interval or ("", ""))) if score else ("", "", "")


def _difference(name: str, row: Row) -> Measured:
    """Return the difference of a row's metric to that of the first row."""
    value, first = _score(name, row)[0], _score(name, row.first or row)[0]
    if row.first is None or "" in (value, first):
        return "", "", ""
    return value - first, *(row.paired.get(name) or ("", ""))
