"""Export a trained model to one file for ONNX Runtime or PyTorch, without the code of this project.

::

    python -m htt.export --checkpoint runs/NAME/checkpoint --to onnx --out model.onnx
    python -m htt.export --checkpoint runs/NAME/checkpoint --to onnx --precision int8 --out model-int8.onnx
    python -m htt.export --checkpoint runs/NAME/checkpoint --to torch --precision fp16 --out model.pt2

The file takes the frames of one window, any number of them, and gives hands, objects and the action (docs/export.md).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from htt import console, files
from htt.config import Config, override

if TYPE_CHECKING:  # else imported late: these modules take seconds to import, and --help should be fast
    from htt.inference.export import Inputs


@dataclass
class Options(console.Options):
    """Export a trained model to one file, read it again, and check its predictions."""

    checkpoint: Path
    """Folder of a checkpoint."""
    to: Literal["onnx", "torch"]
    """Format: onnx for ONNX Runtime, torch for torch.export.load."""
    out: Path
    """File to write, *.onnx or *.pt2; an existing one is replaced."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Arithmetic of the exported model; int8 is for onnx only, and is calibrated on training clips."""
    data: console.OptionalText = None
    """For int8, folder or URI of the shards with the training clips (default: the data of the training)."""


def main(options: Options) -> None:
    """Export, and print how far the predictions are from those of the checkpoint."""
    from htt.inference import export
    from htt.training import checkpoint as checkpoints
    from htt.training.loading import trained_config

    config = trained_config(options.checkpoint)
    export.check(config.model, options.out, options.to, options.precision)
    calibration = training_windows(config, options) if options.precision == "int8" else ()
    model, _ = checkpoints.load(options.checkpoint)
    if config.model.forecast.frames:
        console.print_message("note:", "the exported model does not forecast: model.forecast is left out.")
    console.out.print(f"Exporting {options.checkpoint}; this takes up to a minute ...")
    with files.writing(options.out.absolute().parent, "The folder of --out"):
        difference = export.export(model, options.out, options.to, options.precision, calibration)
    console.out.print(
        f"{options.out}  {options.precision}, {options.out.stat().st_size / 1e6:.1f} MB\n"
        f"Largest difference from the checkpoint, for random images: {difference:.1e} of an output's largest value."
    )
    if options.precision != "fp32":
        words = ["python", "-m", "htt.compare", "--checkpoint", str(options.checkpoint)]
        console.out.print(f"\nIts accuracy, beside that of other precisions:\n  {shlex.join(words)}")


def training_windows(config: Config, options: Options) -> Iterator[Inputs]:
    """Return an iterator over the windows of training clips that calibrate int8.

    Raises:
        CheckpointError: the model was trained on data with other classes or images.
        DataError: there are no training clips.
    """
    from htt.data.location import fields_of
    from htt.inference.export import calibration_windows

    given = override(config, fields_of(options.data)) if options.data else config
    return calibration_windows(given, options.checkpoint)


if __name__ == "__main__":
    console.run(Options, main)
