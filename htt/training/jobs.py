"""The jobs a worker does: train a configuration, or evaluate a trained model. Without Ray: ``worker`` adds it.

Every road leads here with the same configuration, so a worker that is alone and one of several give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from htt.batch import Batch, Prediction
from htt.config import Config
from htt.data import manifest, splits
from htt.data.prepare import cache_folder, prepare
from htt.data.splits import Splits
from htt.model.htt import HTT
from htt.training.group import Group, best_device
from htt.training.loop import Report, evaluate, fit
from htt.training.metrics import Evaluation
from htt.training.neighbours import Neighbours
from htt.training.trained import open_trained


def train(config: Config, folder: Path, report: Report, resume: Path | None = None) -> None:
    """Train alone in this process.

    Args:
        config: the training, completely.
        folder: where checkpoints and TensorBoard files go.
        report: takes each epoch's metrics and the folder of its checkpoint.
        resume: a checkpoint's folder to go on from.
    """
    splits = open_splits(config)
    with Neighbours(cache_folder(config)) as neighbours:
        group = Group(device=best_device(), neighbours=neighbours)
        fit(config, splits, report, folder=folder, group=group, resume=resume)


def open_splits(config: Config) -> Splits:
    """The training and validation clips of a configuration, rendered or checked first."""
    return splits.open_splits(prepare(config), config.data)


def prepare_search(config: Config) -> None:
    """Make a configuration's data ready for trials, which are selected by validation clips.

    Raises:
        DataError: the data are not there, or have no clips to select by.
    """
    splits.check_validation(prepare(config), config.data)


def metrics_of_test(model: HTT, config: Config, group: Group) -> dict[str, float]:
    """The metrics of the test split, as ``test_...``; nothing if the data have none."""
    root = prepare(config)
    if splits.TEST not in manifest.read(root).splits:
        return {}
    found = evaluate(model, splits.open_named(root, splits.TEST, config.data), config, group=group).result()
    return {f"{splits.TEST}_{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class EvaluationJob:
    """What is to be evaluated."""

    checkpoint: Path
    config: Config
    """Of the evaluation: the checkpoint's, on other data perhaps."""
    split: str
    official: bool = False
    """Whether the checkpoint is a file of HTT's authors."""

    def __call__(self, group: Group, done: Callable[[int], object]) -> Evaluation:
        """Evaluate: the same on every worker, to the last bit whatever their number.

        Args:
            group: this worker and the others.
            done: told how many windows of a batch are done.
        """
        clips = splits.open_named(prepare(self.config), self.split, self.config.data)
        model, _ = open_trained(self.checkpoint, clips.info, official=self.official)

        def on_batch(batch: Batch, prediction: Prediction) -> None:  # noqa: ARG001 - as the loop calls it
            done(len(batch.valid))

        return evaluate(model.to(group.device), clips, self.config, group=group, on_batch=on_batch)
