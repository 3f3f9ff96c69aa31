"""Export of a trained model to one file, for ONNX Runtime or for ``torch.export.load``.

The exported function predicts one window of any number of frames, all of them valid::

    frames [t 3 h w] uint8, intrinsics [3 3] float32 (px)  ->  the values of ``OUTPUTS``

Values of frames are [t ...], and ``action_logits`` is [a]. The file also holds the facts of the data, as JSON. A head
of ``model.forecast`` is left out.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from htt import files
from htt.batch import Layout, Prediction, Truth
from htt.config import Config, ForecastConfig, ModelConfig
from htt.data.loading.loader import Assembler
from htt.data.loading.splits import open_named
from htt.data.loading.windows import evaluation_windows
from htt.data.prepare import prepare
from htt.data.shards.manifest import TRAIN
from htt.errors import CheckpointError, ConfigError, shown
from htt.info import NAMES, DataInfo
from htt.model.htt import HTT
from htt.training import checkpoint as checkpoints
from htt.training.loading import check_info

Format = Literal["onnx", "torch"]
Precision = Literal["fp32", "fp16", "int8"]
Inputs = tuple[Tensor, Tensor]
"""Inputs of the exported function: the frames and the intrinsics of a window."""
OUTPUTS = tuple(field.name for field in fields(Prediction) if field.default is MISSING)
"""Names of the outputs, in order; see ``htt.batch.Prediction``. Hand types are used inside a model alone."""
SUFFIXES: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
RECORD = "htt"
"""Name of the record in a file: JSON with ``precision`` and ``info``."""
TOLERANCE = 1e-4
"""Largest difference of an fp32 export from its model, relative to the largest value of an output, or to 1."""
CALIBRATION_WINDOWS = 64
"""Training windows from which the ranges of int8 values are taken."""
FORECAST = "forecast_head."
"""Beginning of the names of weights that are not exported: an exported model does not forecast."""
EXACT = ("pose_head", "object_head", "hand_type_head", "action_head")
"""Parts that are not quantised: 8 bits of the last layers would cost pixels, and they take little time."""


class OneWindow(HTT):
    """HTT for one window whose frames are all valid: no shape depends on a value, so it can be exported."""

    def forward(  # type: ignore[override]
        self, frames: UInt8[Tensor, "t 3 h w"], intrinsics: Float[Tensor, "3 3"]
    ) -> tuple[Tensor, ...]:
        """Return the values of ``OUTPUTS``."""
        count, k = frames.shape[0], self.config.pose.window
        valid = frames.new_ones((1, count), dtype=torch.bool)
        # By a value, although it is known: an export takes a shape of 1 in its example for a constant.
        windows = ((valid.sum() + k - 1) // k).item()
        torch._check(windows > 0)  # type: ignore[no-untyped-call]
        slot = torch.arange(count, device=frames.device)
        pose_valid = torch.arange(windows * k, device=frames.device).view(-1, k) < count
        layout = Layout(slot, torch.zeros_like(slot), slot, pose_valid, (count,))
        predicted = super().forward(frames, valid, intrinsics[None], layout=layout)
        *of_frames, action_logits = (getattr(predicted, name).float() for name in OUTPUTS)
        return (*of_frames, action_logits[0])


def export(
    model: HTT, file: Path, to: Format, precision: Precision = "fp32", calibration: Iterable[Inputs] = ()
) -> float:
    """Write a model to a file, and return the ``largest_difference`` of the predictions of the file.

    Args:
        model: trained model.
        file: file to write, with the suffix of the format.
        to: format.
        precision: fp32; fp16, whose pose head stays fp32; or int8, whose heads stay fp32 (ONNX only).
        calibration: windows of training clips, for int8.

    Raises:
        CheckpointError: an fp32 export differs from its model by more than ``TOLERANCE``.
        ConfigError: the format cannot hold this model in this precision, or packages are missing.
        StorageError: the disk is full or not writable.
    """
    check(model.config, file, to, precision)
    own = model.config.model_copy(update={"forecast": ForecastConfig()})
    one = OneWindow.without_weights(own, model.info, model.features.settings)
    assert isinstance(one, OneWindow)
    one.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith(FORECAST)})
    one.eval().requires_grad_(False)
    if precision == "fp16":
        _to_half(one)
    record = json.dumps({"precision": precision, "info": asdict(model.info)})
    program = _program(one)
    with files.replacing(file.absolute()) as part:
        with _quiet():
            if to == "torch":
                whole = io.BytesIO()  # on a full disk torch's own writer ends the process
                torch.export.save(program, whole, extra_files={RECORD: record})
                part.write_bytes(whole.getbuffer())
            else:
                _write_onnx(program, part, record, calibration if precision == "int8" else None)
        difference = largest_difference(model, load(part, to))
        if precision == "fp32" and not difference <= TOLERANCE:
            raise CheckpointError(
                f"The exported model differs from its checkpoint by {difference:.1e} of an output's largest value; at "
                f"most {TOLERANCE:g} is allowed. {file} is not written. Use the other format of --to."
            )
    return difference


def check(config: ModelConfig, file: Path, to: Format, precision: Precision) -> None:
    """Raise a ``ConfigError`` with all reasons why a model cannot be exported in this way."""
    faults = []
    if file.suffix != SUFFIXES[to]:
        faults.append(f"--out must end in {SUFFIXES[to]} for --to {to}; got {shown(str(file))}.")
    if to == "torch" and precision == "int8":
        faults.append("--precision int8 requires --to onnx: only ONNX Runtime quantises the model.")
    if config.action.given:
        faults.append(
            f"model.action.given is {', '.join(config.action.given)}: the model needs labels of its frames. Export one "
            "that was trained with model.action.given=[]."
        )
    if faults:
        raise ConfigError.of(faults)
    if to == "onnx":
        require_onnx()


def calibration_windows(config: Config, checkpoint: Path) -> Iterator[Inputs]:
    """Return an iterator over windows spread over the training clips, from which int8 values get their ranges.

    Args:
        config: configuration of the model, with the data to use.
        checkpoint: folder of its checkpoint.

    Raises:
        CheckpointError: the model was trained on data with other classes or images.
        DataError: there are no training clips.
    """
    clips = open_named(prepare(config), TRAIN, config.data)
    check_info(checkpoint, checkpoints.read(checkpoint).info, clips.info)
    windows = evaluation_windows(clips.frame_counts, config)
    chosen = np.unique(np.linspace(0, len(windows) - 1, CALIBRATION_WINDOWS).round().astype(int))
    batches = map(Assembler(clips, windows), chosen[:, None])
    return ((batch.frames, batch.intrinsics[0]) for batch in batches)


def _program(one: OneWindow) -> torch.export.ExportedProgram:
    """Return the exported function, with any number of frames.

    Raises:
        ConfigError: torch cannot export a part of the model.
    """
    config, info = one.config, one.info
    frames = torch.zeros(config.pose.window + 1, 3, info.height, info.width, dtype=torch.uint8)
    dynamic = ({0: torch.export.Dim("frames", min=1)}, None)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(one, (frames, torch.eye(3)), dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # of any type, because parts are plug-ins
        raise ConfigError(
            f"torch.export cannot export this model, with model.backbone.name {config.backbone.name}, model.pose.block "
            f"{config.pose.block} and model.action.block {config.action.block}: {_first_line(error)}. The block lstm "
            "cannot be exported; other parts of the project can."
        ) from error


def _to_half(one: OneWindow) -> None:
    """Convert a model to fp16, except the pose head: positions in fp16 would be rounded to steps of up to 0.4 px."""
    mean, deviation = one.features.mean, one.features.deviation
    one.half()
    one.pose_head.float()
    one.features.mean, one.features.deviation = mean, deviation
    for module in one.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm)):
            module.register_forward_pre_hook(_to_weight)


def _to_weight(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Convert the inputs of a layer to the type of its weight."""
    return tuple(each.to(module.weight.dtype) for each in arguments)


def _write_onnx(
    program: torch.export.ExportedProgram, part: Path, record: str, calibration: Iterable[Inputs] | None
) -> None:
    import onnx

    names = {"input_names": ["frames", "intrinsics"], "output_names": list(OUTPUTS)}
    try:
        model: Any = torch.onnx.export(program, dynamo=True, verbose=False, **names).model_proto  # type: ignore
    except Exception as error:  # of any type, because parts are plug-ins
        raise ConfigError(f"ONNX cannot express this model: {_first_line(error)}. Use --to torch.") from error
    if calibration is not None:
        model = _quantised(model, calibration, part)
    onnx.helper.set_model_props(model, {RECORD: record})
    onnx.save(model, part)


def _quantised(model: Any, calibration: Iterable[Inputs], part: Path) -> Any:
    """Return an ONNX model whose convolutions and matrices of weights are int8.

    Source: ONNX Runtime's advice for processors without VNNI, where 8-bit weights may overflow: 7 bits per channel.
    """
    import onnx
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            window = next(self._left, None)
            return window and _feed(*window)

    exact = [node.name for node in model.graph.node if _is_exact(node)]
    quantization.quantize_static(
        model,
        part,
        Reader(),
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
        nodes_to_exclude=exact,
        extra_options={"MatMulConstBOnly": True},
    )
    return onnx.load(part)


def _is_exact(node: Any) -> bool:
    """Return whether a node of an ONNX graph is inside a part of HTT that is not quantised."""
    scopes = next((each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"), "")
    return not set(EXACT).isdisjoint(re.findall(r"\w+", scopes))


@dataclass(frozen=True)
class Record:
    """Facts of an exported model, stored in its file."""

    precision: str
    info: DataInfo


class Exported(nn.Module):
    """Exported model with the interface of HTT: it predicts the windows of a batch one by one."""

    def __init__(self, run: Callable[[Tensor, Tensor], Sequence[Tensor]], record: Record) -> None:
        super().__init__()
        self.run, self.record = run, record

    def forward(
        self,
        frames: UInt8[Tensor, "n 3 h w"],
        valid: Bool[Tensor, "b t"],
        intrinsics: Float[Tensor, "b 3 3"],
        attention: bool = False,
        truth: Truth | None = None,
        layout: Layout | None = None,
    ) -> Prediction:
        """Return the predictions for the valid frames of a batch, without attention weights; the rest is not used."""
        del attention, truth, layout
        windows = torch.split(frames, valid.sum(dim=1).tolist())
        parts = [self.run(window, matrix) for window, matrix in zip(windows, intrinsics, strict=True)]
        *of_frames, action_logits = zip(*parts, strict=True)
        values: list[Any] = [*map(torch.cat, of_frames), torch.stack(action_logits)]
        return Prediction(*values)


def load(file: Path, to: Format | None = None) -> Exported:
    """Read an exported model; an ONNX model runs on the CPU with as many threads as torch uses.

    Args:
        file: file that ``export`` wrote.
        to: its format, or None for that of its suffix.

    Raises:
        CheckpointError: it is no such file.
        ConfigError: the packages for ONNX are missing.
    """
    to = to or next((each for each, suffix in SUFFIXES.items() if suffix == file.suffix), None)
    if to is None or not file.is_file():
        raise CheckpointError(
            f"No exported model {file}: expected a file that python -m htt.export wrote, "
            f"{' or '.join(SUFFIXES.values())}."
        )
    if to == "onnx":
        require_onnx()
    opened = {"onnx": _open_onnx, "torch": _open_torch}[to]
    try:
        run, text = opened(file)
        record = json.loads(text)
        info = {**record["info"], **{name: tuple(record["info"].get(name, ())) for name in NAMES}}
        return Exported(run, Record(record["precision"], DataInfo(**info)))
    except Exception as error:  # of any type, because both libraries have their own
        raise CheckpointError(
            f"Cannot read the exported model {file}: {_first_line(error)}. Export it again with python -m htt.export."
        ) from error


def _open_onnx(file: Path) -> tuple[Callable[[Tensor, Tensor], list[Tensor]], str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(frames: Tensor, intrinsics: Tensor) -> list[Tensor]:
        return [torch.from_numpy(values) for values in session.run(OUTPUTS, _feed(frames, intrinsics))]

    return run, session.get_modelmeta().custom_metadata_map[RECORD]


def _feed(frames: Tensor, intrinsics: Tensor) -> dict[str, np.ndarray]:
    return {"frames": frames.contiguous().numpy(), "intrinsics": intrinsics.numpy()}


def _open_torch(file: Path) -> tuple[Callable[[Tensor, Tensor], Sequence[Tensor]], str]:
    record = {RECORD: ""}
    with _quiet():
        program = torch.export.load(file, extra_files=record)
    return program.module(), record[RECORD]


def largest_difference(model: HTT, exported: Exported) -> float:
    """Return the largest difference between the outputs of two models for random images, in windows of some lengths.

    It is relative to the largest value of an output, or to 1 if that is smaller.
    """
    info, window = model.info, model.config.pose.window
    random = torch.Generator().manual_seed(0)
    intrinsics = torch.tensor([[info.width, 0, info.width / 2], [0, info.width, info.height / 2], [0, 0, 1.0]])[None]
    largest = 0.0
    for count in sorted({1, window, min(window + 1, model.config.action.length)}):
        frames = torch.randint(0, 256, (count, 3, info.height, info.width), generator=random, dtype=torch.uint8)
        inputs = frames, torch.ones(1, count, dtype=torch.bool), intrinsics
        with torch.inference_mode():
            wanted, found = model(*inputs), exported(*inputs)
        for name in OUTPUTS:
            expected = getattr(wanted, name)
            scale = max(float(expected.abs().max()), 1.0)
            largest = max(largest, float((getattr(found, name) - expected).abs().max()) / scale)
    return largest


def require_onnx() -> None:
    """Raise a ``ConfigError`` that names the packages for ONNX that are not installed."""
    if missing := [name for name in ("onnx", "onnxruntime", "onnxscript") if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"ONNX requires packages that are not installed: {', '.join(missing)}. Install the extra: pip install "
            "-e '.[export]'."
        )


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    return shown(f"{type(error).__name__}: {line}", quoted=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings of the exporters: of missing optional packages, and of their own deprecated calls."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
