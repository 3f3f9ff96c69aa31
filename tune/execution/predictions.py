"""Picture of a search's best trial at work: frames of validation clips with the true and the predicted hands.

A trial on stored features sees no images, but its checkpoint holds the whole model, and the frames that the features
were made of are still there: the picture is drawn once, at the end of the search.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import torch

from htt.config import Config
from htt.data.loading import splits
from htt.data.loading.loader import Assembler
from htt.data.loading.windows import evaluation_windows
from htt.data.prepare import prepare
from htt.data.shards import manifest
from htt.evaluation import clip_table
from htt.evaluation.metric_table import METRICS
from htt.pages import style
from htt.training.board import overlay
from htt.training.loading import open_trained

SHOWN = 8
COLUMNS = 4
ERROR = "hand_error_mm"
LETTERS = 50
"""Characters in one line of a title."""


@torch.inference_mode()
def draw(config: Config, checkpoint: Path, path: Path) -> None:
    """Write a PNG with one frame of each of some validation clips, from the best predicted clip to the worst.

    Nothing is written if no validation clip has annotated hands.

    Args:
        config: configuration of the trial.
        checkpoint: its checkpoint, with the table of the validation clips.
        path: path of the PNG.

    Raises:
        HTTError: the frames or the checkpoint cannot be read.
    """
    clips = splits.open_named(prepare(config), manifest.VAL, config.data)
    model, _ = open_trained(checkpoint, clips.info)
    windows = evaluation_windows(clips.frame_counts, config)
    assembler, index = Assembler(clips, windows), {clip: place for place, clip in enumerate(clips.ids)}
    table = pl.read_parquet(checkpoint / clip_table.FILE).drop_nulls(ERROR).sort(ERROR)
    if not len(table):
        return
    chosen = table[np.unique(np.linspace(0, len(table) - 1, SHOWN).round().astype(int)).tolist()]
    rows = -(-len(chosen) // COLUMNS)
    figure = style.canvas(2.5 * rows)
    for place, clip in enumerate(chosen.iter_rows(named=True)):
        own = np.flatnonzero(windows.clip == index[clip["clip"]])
        batch = assembler([int(own[len(own) // 2])])
        prediction = model(batch.frames, batch.valid, batch.intrinsics)
        seen = np.flatnonzero(batch.joint_valid.any(dim=1).numpy())
        frame = int(seen[len(seen) // 2]) if len(seen) else len(batch.frames) // 2
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        axes.imshow(overlay(batch, prediction, frame))
        axes.set_axis_off()
        axes.set_title(_title(clip), fontsize=8, loc="left")
    style.save_png(figure, path)


def _title(clip: dict[str, object]) -> str:
    """Return the clip's mean error, and its true and predicted action if the true one is known."""
    error = METRICS[ERROR].number(float(str(clip[ERROR])))
    lines = [f"{error} over the clip"]
    if clip["action"] is not None:
        wrong = "" if clip["correct"] else f", not {clip['predicted']}"
        lines.append(style.wrapped(f"{clip['action']}{wrong}", LETTERS, lines=2))
    return "\n".join(lines)
