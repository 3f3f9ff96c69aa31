"""Evaluate a trained model on a split: every metric with its interval, beside the published numbers.

::

    python -m htt.evaluate --checkpoint runs/NAME/checkpoint --data /data/h2o-shards --split val
    python -m htt.evaluate --checkpoint runs/NAME/checkpoint --data SHARDS --split test --workers 4 --gpus-per-worker 1
    python -m htt.evaluate --official --checkpoint htt_h2o.pth --data SHARDS --split val

Several workers give the same numbers as one. They run on the cores and GPUs of this machine; submitted as a Ray job,
on its cluster.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from htt import console, files
from htt.config import Config, override, parse_set
from htt.data.shards import manifest
from htt.data.shards.manifest import TEST, VAL
from htt.errors import ConfigError

if TYPE_CHECKING:  # else imported late: these modules take seconds to import, and --help should be fast
    from htt.data.loading.clips import Clips
    from htt.evaluation.metrics import Evaluation
    from htt.evaluation.scores import Scores
    from htt.training.tasks import EvaluationJob


@dataclass
class ModelOptions(console.Options):
    """Trained model and the split that it is used on."""

    checkpoint: Path
    """Folder of a checkpoint; with --official, the file of weights that HTT's authors released."""
    split: str
    """Split to use: train, val or test."""
    data: console.OptionalText = None
    """Folder or URI (s3://, gs://) of converted shards (default: the data of the training)."""
    official: bool = False
    """Read the checkpoint as the authors' file."""
    set: console.Assignments = field(default_factory=list)
    """Change a field of the configuration, as in --set train.precision=fp32; repeat for more."""


@dataclass
class Options(ModelOptions):
    """Evaluate a trained model on a split, and write metrics.json, per_clip.parquet and report.md."""

    workers: int = 1
    """Number of processes, which share all GPUs or cores."""
    gpus_per_worker: console.OptionalFloat = None
    """GPUs per worker, for several workers (default: one if there are any). A single worker uses one if it can."""
    out: console.OptionalPath = None
    """Folder of the results (default: evaluation-<split> beside the checkpoint)."""


def main(options: Options) -> None:
    """Evaluate, write the files, and print the numbers."""
    if options.workers < 1 or (options.gpus_per_worker or 0) < 0:
        raise ConfigError(
            f"--workers must be 1 or more and --gpus-per-worker 0 or more; got {options.workers} and "
            f"{options.gpus_per_worker or 0:g}."
        )
    from htt.data.loading.splits import coverage, open_named
    from htt.data.prepare import prepare
    from htt.evaluation import clip_table, report
    from htt.evaluation.scores import reservations, scores
    from htt.training.loading import trained_config
    from htt.training.tasks import EvaluationJob, check_given

    config = override(evaluation_config(options), {"runtime.early_action": True})
    root = prepare(config)
    clips = open_named(root, options.split, config.data)
    trained = trained_config(options.checkpoint, official=options.official)  # the model is this one, despite --set
    check_given(trained, clips)
    out = options.out or options.checkpoint.resolve().parent / f"evaluation-{options.split}"
    job = EvaluationJob(options.checkpoint.resolve(), config, options.split, options.official)
    covered = coverage(root, options.split, config.data)
    about = report.Provenance(
        checkpoint=str(options.checkpoint),
        data=config.data.root or "rendered",
        command=shlex.join(["python", "-m", "htt.evaluate", *sys.argv[1:]]),
        frames=int(clips.frame_counts.sum()),
        fingerprint=config.fingerprint(),
    )
    with files.writing(out):
        evaluated = evaluate(job, clips, options, out)
        result = scores(
            evaluated,
            options.split,
            coverage=covered,
            subjects=clips.subjects,
            groups=clips.groups,
            reservations=reservations(trained),
            sees_images=trained.model.backbone.reads_images,
        )
        report.write(out, result, clip_table.of_split(result.sums, clips), about)
    print_result(result, out)
    if commands := next_commands(options, config, root):
        lines = "".join(f"\n  {shlex.join(words)}" for words in commands)
        console.out.print(f"\nNext:{lines}", markup=False)


def next_commands(options: Options, config: Config, root: Path) -> list[list[str]]:
    """Return the next commands: the other splits with clips, and H2O's submission files."""
    made = manifest.read(root)
    model = ["--checkpoint", str(options.checkpoint), *(["--official"] if options.official else [])]
    data = ["--data", options.data] if options.data else []
    evaluate = ["python", "-m", "htt.evaluate", *model, *data, "--split"]
    commands = [[*evaluate, split] for split in (VAL, TEST) if split != options.split and made.splits.get(split)]
    if made.source == "h2o" and config.data.root:
        commands.append(["python", "-m", "htt.submit", *model, "--data", options.data or config.data.root])
    return commands


def evaluation_config(options: ModelOptions) -> Config:
    """Return the checkpoint's configuration with the data and fields of the options."""
    from htt.data.location import fields_of
    from htt.training.loading import trained_config

    config = trained_config(options.checkpoint, official=options.official)
    values = parse_set(options.set)
    if options.data:
        if "data.root" in values:
            raise ConfigError("Cannot use both --data and --set data.root. Drop one of them.")
        values |= fields_of(options.data)
    elif options.official:
        raise ConfigError("--data is required with --official: a folder of shards.")
    return override(config, values)


def evaluate(job: EvaluationJob, clips: Clips, options: Options, out: Path) -> Evaluation:
    """Return the evaluation, computed in this process or on several workers, and show its progress."""
    from htt.data.loading.windows import evaluation_windows
    from htt.group import Group, best_device

    windows = len(evaluation_windows(clips.frame_counts, job.config))
    with console.Counting(f"Evaluating {clips.info.source} {job.split}", windows, "windows") as counting:
        if options.workers == 1:
            return job(Group(device=best_device()), counting.advance)
        from htt.training.worker import evaluate_on_workers  # one worker needs no Ray

        return evaluate_on_workers(
            job, counting.advance, workers=options.workers, gpus_per_worker=options.gpus_per_worker, folder=out
        )


def print_result(result: Scores, out: Path) -> None:
    """Print the numbers and the location of the files."""
    from htt.evaluation import report
    from htt.evaluation.intervals import people, sampled

    console.out.print(f"{result.source}, {result.split}: {sampled(len(result.sums.clip), result.groups)}")
    console.print_table([report.heads(result), *report.rows(result)])
    if note := people(result.subjects):
        console.out.print(f"\n{note}")
    for warning in result.warnings:
        console.print_message("warning:", warning)
    console.out.print(f"\nReport      {out / report.REPORT}", markup=False)
    console.out.print(f"Every clip  {out / report.PER_CLIP}", markup=False)
    console.out.print(f"All numbers {out / report.METRICS_FILE}", markup=False)


if __name__ == "__main__":
    console.run(Options, main)
