"""Predict H2O's test split and write the files its server takes, or check such a file.

::

    python -m htt.submit --checkpoint runs/<name>/checkpoint --data SHARDS --out submission
    python -m htt.submit --checkpoint htt_h2o.pth --official --data SHARDS --out submission
    python -m htt.submit --check submission/hand_poses/answer.zip --data SHARDS

Writes ``action_labels/answer.zip`` and ``hand_poses/answer.zip`` below ``--out``; an incomplete one is refused. A file
that is checked may be any, zipped or bare; with ``--data`` its frames are compared with those of the data.
"""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from htt import console, files
from htt.config import override, parse_set
from htt.errors import CheckpointError, ConfigError, DataError, bullets
from htt.submission.check import check
from htt.submission.faults import LINES, Faults, compare
from htt.submission.form import H2O_TEST, LABELS, Expected, Vote, expected
from htt.text import plural

if TYPE_CHECKING:
    from htt.submission.make import Predicted


@dataclass
class Options(console.Options):
    """Predict H2O's test split and write the files its server takes, or check such a file."""

    checkpoint: console.OptionalPath = None
    """Folder of a checkpoint; with --official, the authors' file."""
    data: console.OptionalText = None
    """Folder or URI (s3://, gs://) of H2O's shards."""
    official: bool = False
    """Read the checkpoint as the authors' file."""
    out: Path = Path("submission")
    """Folder for the two files."""
    split: str = "test"
    """Split to predict."""
    set: console.Assignments = field(default_factory=list)
    """Change a field of the prediction, as in --set train.precision=fp32; repeat for more."""
    vote: Vote = "soft"
    """Vote of a clip's windows on its action: by summed probabilities (soft), or one vote each (hard)."""
    check: console.OptionalPath = None
    """File to check: answer.zip, action_labels.json or hand_poses.json."""


def main(options: Options) -> None:
    """Predict and write the files, or check a file."""
    if options.check is not None:
        if options.checkpoint is not None or options.official:
            raise ConfigError("Cannot use --check, which checks an existing file, with --checkpoint or --official.")
        wanted = expected(_located(options.data), options.split) if options.data else H2O_TEST
        _check(options.check, wanted, options.split)
    elif options.checkpoint is None or options.data is None:
        raise ConfigError("Missing options: give --checkpoint and --data to predict, or --check to check a file.")
    else:
        _submit(options, options.checkpoint, _located(options.data))


def _located(data: str) -> Path:
    from htt.data.location import local_folder  # a check of a file needs no torch

    return local_folder(data, name="--data")


def _submit(options: Options, checkpoint: Path, data: Path) -> None:
    from htt.submission.make import write  # needs torch, which takes a second to import; a check does not

    wanted = expected(data, options.split)
    with contextlib.ExitStack() as stack:
        predicted = _predicted(options, checkpoint, data, wanted, stack)
        paths = write(options.out, predicted, wanted)
    for path in paths:
        size = path.stat().st_size / 1e6
        console.out.print(f"{path}  {check(path, wanted).holds}, {size:.1f} MB", markup=False)
    console.out.print(
        "Both files hold every frame of the data. H2O's server closed in January 2026: see docs/benchmarks.md."
    )
    if options.split == "test" and (faults := _short_of_h2o(wanted)):
        console.out.print(f"note: the data are not H2O's whole test split:\n{faults}", markup=False)
    given = ["--data", str(options.data), "--split", options.split]
    model = ["--checkpoint", str(checkpoint), *(["--official"] if options.official else [])]
    commands = [["htt.submit", "--check", str(path), *given] for path in paths] + [["htt.evaluate", *model, *given]]
    console.out.print("\nNext:")
    for words in commands:
        console.out.print(f"  {shlex.join(['python', '-m', *words])}", markup=False)


def _short_of_h2o(wanted: Expected) -> str:
    """Return a line for each difference from the clips and frames of H2O's test split; empty if there is none."""
    faults = Faults()
    compare({clip: numbers or () for clip, numbers in wanted.frames.items()}, H2O_TEST, faults)
    return bullets(faults.lines(), LINES)


def _predicted(
    options: Options, checkpoint: Path, data: Path, wanted: Expected, stack: contextlib.ExitStack
) -> Predicted:
    """Return the predictions; the output folder is held by ``stack`` once the options are known to be valid."""
    from htt.data.loading.clips import open_split
    from htt.group import best_device
    from htt.submission.make import predict, require_frames
    from htt.training.loading import open_trained

    clips = open_split(data, options.split)
    require_frames(clips, wanted)
    model, config = open_trained(checkpoint, clips.info, official=options.official)
    config = override(config, parse_set(options.set))
    if not model.config.backbone.reads_images:
        raise CheckpointError(
            f"Cannot submit the predictions of {checkpoint}: it has no image encoder (model.backbone.name none) and "
            "predicts no hands. Use a model that was trained on images."
        )
    if given := model.config.action.given:
        raise CheckpointError(
            f"Cannot submit the predictions of {checkpoint}: its block A is given the true {' and '.join(given)} "
            "(model.action.given), so its numbers are a bound, not a result. Train with model.action.given=[]."
        )
    stack.enter_context(files.writing(options.out))
    device = best_device()
    console.out.print(
        f"Predicting {plural(len(clips), 'clip')} of '{options.split}' on the {device.type} ...", markup=False
    )
    with console.Counting("Predicting", int(clips.frame_counts.sum()), "frames") as counting:
        return predict(model, clips, config, device=device, vote=options.vote, on_frames=counting.advance)


def _check(path: Path, wanted: Expected, split: str) -> None:
    result = check(path, wanted)
    against = plural(len(wanted.frames), "clip") + (" of H2O's test split" if wanted is H2O_TEST else " of the data")
    console.out.print(f"{result.holds}; compared with {against}", markup=False)
    for title, properties in (("Checked", result.checked), ("Not checked", result.unchecked)):
        if properties:
            console.out.print(f"{title}: {'; '.join(properties)}.", markup=False)
    if result.faults:
        raise DataError(
            f"Invalid submission {path}, {plural(len(result.faults), 'fault')}:\n{bullets(result.faults, LINES)}\n"
            "Write it again: python -m htt.submit --checkpoint CHECKPOINT --data SHARDS."
        )
    parts = "every clip" if result.holds.startswith(LABELS) else "every clip and every frame"
    console.out.print(f"Complete: the file has {parts}, and no fault was found.")
    if split == "test" and (faults := _short_of_h2o(wanted)):
        console.out.print(f"note: the data are not H2O's whole test split:\n{faults}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
