"""Compare trained models in several forms: size, latency, frames/s, hand error and action accuracy with intervals.

::

    python -m htt.compare --checkpoint runs/NAME/checkpoint --split val
    python -m htt.compare --checkpoint runs/NAME/checkpoint --checkpoint runs/STUDENT/checkpoint --split val

Forms are PyTorch in fp32 and bf16, and ONNX Runtime in fp32 and int8 (docs/export.md).
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from htt import console, files
from htt.config import override
from htt.data.shards.manifest import VAL
from htt.errors import ConfigError


@dataclass
class Options(console.Options):
    """Compare trained models in several forms, and write compression.md, compression.csv and the exported models."""

    checkpoint: Annotated[list[Path], tyro.conf.UseAppendAction] = field(default_factory=list)
    """Folder of a checkpoint; repeat for more models, such as a distilled one."""
    split: str = VAL
    """Split to evaluate: train, val or test."""
    data: console.OptionalText = None
    """Folder or URI of converted shards (default: the data of the first model's training)."""
    out: Path = Path("compression")
    """Folder of the table and of the exported models."""


def main(options: Options) -> None:
    """Evaluate and time every form, print the table and write it."""
    if not options.checkpoint:
        raise ConfigError("Missing --checkpoint: give the folder of a checkpoint, once or more.")
    from htt.data.location import fields_of
    from htt.inference import compression
    from htt.training.loading import trained_config

    configs = [trained_config(folder) for folder in options.checkpoint]
    data = override(configs[0], fields_of(options.data)).data if options.data else configs[0].data
    with files.writing(options.out):
        rows = list(compression.compare(options.checkpoint, data, options.split, options.out))
        compression.write(options.out, rows, shlex.join(["python", "-m", "htt.compare", *sys.argv[1:]]))
    console.print_table(compression.table(rows).lines())
    if len(rows) > 1:
        console.out.print(f"\nDifferences to {compression.named(rows[0])}, on the same clips:", markup=False)
        console.print_table(compression.differences(rows).lines())
    console.out.print(f"\nTable  {options.out / compression.REPORT}\nFiles  {options.out}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
