"""Show what a trained model attends to, and test whether it needs these frames.

::

    python -m htt.attention --checkpoint runs/NAME/checkpoint --split val
    python -m htt.attention --checkpoint runs/NAME/checkpoint --data SHARDS --split val --out DIR --remove 1 4 16

Writes a report with its figures (``report.html`` to open, and ``report.md``), and every number as CSV.
``htt.inference.attention`` explains the test.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from htt import console, evaluate, files

if TYPE_CHECKING:  # else imported late: these modules take seconds to import, and --help should be fast
    from htt.config import Config
    from htt.data.loading.clips import Clips
    from htt.inference.attention import Attention


@dataclass
class Options(evaluate.ModelOptions):
    """Show what a trained model attends to, and test whether it needs these frames; the actions must be known."""

    out: console.OptionalPath = None
    """Folder of the results (default: attention-<split> beside the checkpoint)."""
    remove: Annotated[tuple[int, ...], tyro.conf.arg(metavar="INT [INT ...]", help_behavior_hint="")] = ()
    """Numbers of frames to remove from each window of a clip (default: 1 2 4 8, if the windows are long enough)."""
    draws: int = 20
    """Draws of the frames that are removed for comparison."""


def main(options: Options) -> None:
    """Measure the attention, write the files, and print the result."""
    from htt.data.loading.splits import coverage, open_named
    from htt.data.prepare import prepare
    from htt.evaluation.report import Provenance
    from htt.evaluation.scores import reservations
    from htt.inference import attention, attention_report
    from htt.pages.html import PAGE, REPORT
    from htt.training.loading import trained_config
    from htt.training.tasks import check_given

    config = evaluate.evaluation_config(options)
    root = prepare(config)
    clips = attention.labelled(open_named(root, options.split, config.data))
    counts = attention.removals(options.remove, options.draws, clips, config)
    trained = trained_config(options.checkpoint, official=options.official)  # the model is this one, despite --set
    check_given(trained, clips)
    out = options.out or options.checkpoint.resolve().parent / f"attention-{options.split}"
    covered = coverage(root, options.split, config.data)
    about = Provenance(
        checkpoint=str(options.checkpoint),
        data=config.data.root or "rendered",
        command=shlex.join(["python", "-m", "htt.attention", *sys.argv[1:]]),
        frames=int(clips.frame_counts.sum()),
        fingerprint=config.fingerprint(),
    )
    warnings = [*([] if covered.complete else [covered.warning]), *reservations(trained)]
    with files.writing(out):
        found = measure(options, config, clips, counts)
        attention_report.write(out, found, options.split, about, warnings)
    for line in attention_report.conclusions(found):
        console.out.print(line, markup=False)
    for warning in warnings:
        console.print_message("warning:", warning)
    console.out.print(f"\nReport  {out / REPORT}\nPage    {out / PAGE}", markup=False)


def measure(options: Options, config: Config, clips: Clips, counts: tuple[int, ...]) -> Attention:
    """Return the attention of the checkpoint on the clips, and show the progress."""
    from htt.data.loading.windows import evaluation_windows
    from htt.group import best_device
    from htt.inference import attention
    from htt.training.loading import open_trained

    model, _ = open_trained(options.checkpoint, clips.info, official=options.official)
    windows = 2 * len(evaluation_windows(clips.frame_counts, config))  # each is seen whole and after removals
    with console.Counting(f"Looking at {clips.info.source} {options.split}", windows, "windows") as counting:
        return attention.measure(
            model,
            clips,
            config,
            counts=counts,
            draws=options.draws,
            device=best_device(),
            done=counting.advance,
        )


if __name__ == "__main__":
    console.run(Options, main)
