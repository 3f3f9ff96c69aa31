"""Explanation of the headline study: its models' results on lost frames, and the information in a token.

    python tune/ablate.py --study headline --seeds 7 --name headline
    python benchmarks/headline.py runs/headline

Models that were trained on features are evaluated on the images.

Two questions about the validation clips, answered for every complete training of a run:

- *Where does the window help?* The hand error on frames whose exposure was lost (black or white), and on the others.
- *What can cues add?* How much of the 2D joints (and of the object's probabilities) a linear map of block P's tokens
  gives already: fitted on half of the groups of clips, judged on the other half, as the share of variance explained.
  What is linear in the token, block A can read from the feature alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from htt.batch import Batch, Prediction
from htt.config import Config
from htt.data.loading.clips import Clips
from htt.data.loading.splits import open_splits
from htt.data.prepare import prepare
from htt.evaluation.intervals import numbered
from htt.model.htt import HTT
from htt.training.loading import open_trained, trained_config
from htt.training.loop import evaluate
from result import header, write
from tune.results.run_folder import RunFolder

LOST = (8.0, 247.0)
"""A frame whose mean pixel is darker or brighter is lost."""
RIDGE = 1e-3


@dataclass(frozen=True)
class Seen:
    """Output of a model for all frames [n] of the clips."""

    group: np.ndarray
    """Number of the clip's group."""
    lost: np.ndarray
    error_mm: np.ndarray
    """Mean over the joints that are known; NaN where none is."""
    tokens: np.ndarray
    joints: np.ndarray
    """[n 2j] as block A is told them."""
    objects: np.ndarray
    """[n o] probabilities."""


def look(model: HTT, clips: Clips, config: Config) -> Seen:
    """Run a model on clips."""
    parts: dict[str, list[np.ndarray]] = defaultdict(list)
    tokens: list[Tensor] = []
    groups = numbered(clips.groups)
    hook = model.object_head.register_forward_pre_hook(lambda _, inputs: tokens.append(inputs[0]))

    def take(batch: Batch, said: Prediction) -> None:
        brightness = batch.frames.float().mean(dim=(1, 2, 3))
        distance = 1000 * torch.linalg.vector_norm(said.joints_m - batch.joints_m, dim=-1)
        known = torch.where(batch.joint_valid, distance, torch.nan)
        parts["group"].append(np.repeat(groups[batch.clip.numpy()], batch.valid.sum(dim=1).numpy()))
        parts["lost"].append(((brightness < LOST[0]) | (brightness > LOST[1])).numpy())
        parts["error_mm"].append(known.nanmean(dim=1).numpy())
        parts["joints"].append(said.joints_raw[..., :2].flatten(1).numpy())
        parts["objects"].append(said.object_logits.softmax(dim=-1).numpy())

    evaluate(model, clips, config, on_batch=take)
    hook.remove()
    return Seen(tokens=torch.cat(tokens).numpy(), **{name: np.concatenate(all_) for name, all_ in parts.items()})


def explained(seen: Seen, target: np.ndarray) -> float:
    """Return the share of a target's variance that a linear map of the tokens explains on other groups of clips."""
    fitted = seen.group % 2 == 0
    known = np.column_stack([seen.tokens, np.ones(len(seen.tokens))])
    gram = known[fitted].T @ known[fitted] + RIDGE * fitted.sum() * np.eye(known.shape[1])
    weights = np.linalg.solve(gram, known[fitted].T @ target[fitted])
    rest = target[~fitted] - known[~fitted] @ weights
    around = target[~fitted] - target[fitted].mean(axis=0)
    return float(1 - (rest**2).sum() / (around**2).sum())


def table(folder: RunFolder, seeds: int | None) -> list[str]:
    """Return a row for each variant: means over its first seeds."""
    rows: dict[str, list[list[float]]] = defaultdict(list)
    splits: dict[str, Clips] = {}
    for trial in folder.trials():
        if trial.state != "complete" or trial.variant is None or len(rows[trial.variant]) == seeds:
            continue
        (checkpoint,) = (folder.path / "tune" / trial.id).glob("checkpoint_*")
        model, config = open_trained(checkpoint, (clips := _clips(checkpoint, splits)).info)
        seen = look(model, clips, config)
        rows[trial.variant].append(
            [
                np.nanmean(seen.error_mm[~seen.lost]),
                np.nanmean(seen.error_mm[seen.lost]),
                100 * seen.lost.mean(),
                100 * explained(seen, seen.joints),
                100 * explained(seen, seen.objects),
            ]
        )
        print(trial.variant, trial.id, np.round(rows[trial.variant][-1], 1), flush=True)
    lines = [
        "| variant | seeds | hand error, frames seen | frames lost | share lost | joints | object |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant, found in rows.items():
        means, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=min(1, len(found) - 1))
        cells = [f"{mean:.1f} ± {deviation:.1f}" for mean, deviation in zip(means, spread, strict=True)]
        cells[2] = f"{means[2]:.1f}"
        units = (" mm", " mm", " %", " %", " %")
        row = " | ".join(cell + unit for cell, unit in zip(cells, units, strict=True))
        lines.append(f"| {variant} | {len(found)} | {row} |")
    return lines


def _clips(checkpoint: Path, splits: dict[str, Clips]) -> Clips:
    config = trained_config(checkpoint)
    key = config.data.model_dump_json()
    if key not in splits:
        found = open_splits(prepare(config), config.data).val
        assert found is not None
        splits[key] = found
    return splits[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the study's folder")
    parser.add_argument("--seeds", type=int, help="trainings of each variant to look at (default: all)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        *header(
            "Why the headline study comes out as it does",
            shlex.join(["python", "benchmarks/headline.py", *sys.argv[1:]]),
        ),
        "Means over seeds and their standard deviation. Joints and object: how much of their variance a linear map of",
        "block P's token explains, on groups of clips it was not fitted on.",
        "",
        *table(RunFolder(arguments.run), arguments.seeds),
    ]
    write("headline_why", lines)


if __name__ == "__main__":
    main()
