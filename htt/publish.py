"""Write a folder with a trained model that others can use: weights, configuration and model card.

::

    python -m htt.publish --checkpoint runs/NAME/checkpoint --out hands-model --licence mit
    python -m htt.predict --checkpoint hands-model --video FILE

The card has the numbers of ``python -m htt.evaluate`` with their intervals. For the hub, upload the folder with its own
client: ``hf upload OWNER/NAME hands-model``; the model is then loaded by that name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from htt import console

Folders = Annotated[list[Path], tyro.conf.UseAppendAction]


@dataclass
class Options(console.Options):
    """Write a folder with a trained model that others can use: weights, configuration and model card."""

    checkpoint: Path
    """Folder of a checkpoint."""
    out: Path
    """Folder to write; it must be new or empty."""
    licence: console.OptionalText = None
    """Licence of the weights, such as mit or cc-by-nc-4.0 (default: not stated)."""
    evaluation: Folders = field(default_factory=list)
    """Folder that python -m htt.evaluate wrote, for the card; repeat for more (default: those beside the
    checkpoint)."""


def main(options: Options) -> None:
    """Write the folder and print what is in it."""
    from htt.inference.published import CARD, publish  # needs torch, which takes a second to import

    evaluations = publish(options.checkpoint, options.out, evaluations=options.evaluation, licence=options.licence)
    for folder in evaluations:
        console.out.print(f"Numbers of {folder}")
    if not evaluations:
        console.print_message(
            "note:",
            "the card has no intervals, because there is no evaluation beside the checkpoint. Evaluate it and publish "
            f"again: python -m htt.evaluate --checkpoint {options.checkpoint} --split val",
        )
    if options.licence is None:
        console.print_message("note:", "the card states no licence. Give one with --licence, such as mit.")
    console.out.print(f"Model card {options.out / CARD}: read and complete it before you share the folder.")


if __name__ == "__main__":
    console.run(Options, main)
