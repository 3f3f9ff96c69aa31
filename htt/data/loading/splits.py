"""The clips a training sees, and those it is selected by.

H2O and the rendered benchmark have a validation split. FPHA has none: ``data.held_out`` of its training clips are kept
from training and validate instead, each action in proportion, always the same ones. With ``data.held_out`` 0, as in the
paper, all clips train and nothing validates.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from htt.config import DataConfig
from htt.data.loading.clips import Clips, open_split
from htt.data.shards import manifest
from htt.data.shards.manifest import TRAIN, VAL, Coverage, Manifest
from htt.errors import DataError
from htt.info import DataInfo


@dataclass(frozen=True)
class Splits:
    """The clips a training may see. The test split is not among them."""

    train: Clips
    val: Clips | None
    """None if the data have no validation split and nothing is held out."""

    @property
    def info(self) -> DataInfo:
        """The facts of the data set."""
        return self.train.info


def open_splits(root: Path, config: DataConfig) -> Splits:
    """The training and validation clips of a folder of shards.

    Raises:
        DataError: there are no such shards, or too few clips to hold any out.
    """
    train = open_split(root, TRAIN)
    if VAL in manifest.read(root).splits:
        return Splits(train, open_split(root, VAL))
    if not config.held_out:
        return Splits(train, None)
    kept, held = hold_out(train.ids, train.action.tolist(), config.held_out)
    return Splits(train.only(kept), train.only(held))


def open_named(root: Path, split: str, config: DataConfig) -> Clips:
    """The clips of a split; of data without a validation split, ``val`` is what is held out of the training clips.

    Raises:
        DataError: there is no such split, and nothing is held out for it.
    """
    if split in (TRAIN, VAL) and VAL not in manifest.read(root).splits and config.held_out:
        splits = open_splits(root, config)
        return splits.train if split == TRAIN or splits.val is None else splits.val
    return open_split(root, split)


def coverage(root: Path, split: str, config: DataConfig) -> Coverage:
    """Return how much of a split the shards hold; of clips held out, how much of the training split.

    Raises:
        DataError: there is no such split.
    """
    found = manifest.read(root)
    return found.coverage(_origin(found, split, config))


def incomplete(root: Path, config: DataConfig, *splits: str) -> list[str]:
    """Return a sentence for each of the splits that the shards do not hold as a whole; splits that are not there: none.

    Args:
        root: of the shards.
        config: says what is held out.
        splits: to look at.
    """
    found = manifest.read(root)
    origins = dict.fromkeys(_origin(found, split, config) for split in splits)
    return [said for split in origins if split in found.splits and (said := found.coverage(split).warning)]


def _origin(found: Manifest, split: str, config: DataConfig) -> str:
    """The split of the shards that the clips of ``split`` come from."""
    return TRAIN if split == VAL and VAL not in found.splits and config.held_out else split


def check_validation(root: Path, config: DataConfig) -> None:
    """Check that there is something to select by.

    Raises:
        DataError: there are neither validation clips nor some held out.
    """
    if VAL not in manifest.read(root).splits and not config.held_out:
        raise DataError(
            f"Trials are selected by validation clips; {root} has no split '{VAL}' and data.held_out is 0. Hold some "
            "of the training clips out: --set data.held_out=0.1"
        )


def hold_out(ids: list[str], actions: list[int], share: float) -> tuple[list[int], list[int]]:
    """Indices of the clips that train, and of those held out, each ascending.

    Clips are ranked within their action by a digest of their id; those with the lowest rank for their action's size are
    held out. So every action gives in proportion, and the same clips are held out whatever their order.

    Raises:
        DataError: there is only one clip.
    """
    if len(ids) < 2:
        raise DataError(f"Two clips are needed to hold one out of training; there is {len(ids)}. Set data.held_out=0.")
    digest = {clip: hashlib.sha256(ids[clip].encode()).hexdigest() for clip in range(len(ids))}
    of_action = Counter(actions)
    seen: dict[int, int] = defaultdict(int)
    rank = {}
    for clip in sorted(digest, key=lambda clip: digest[clip]):
        action = actions[clip]
        rank[clip] = ((seen[action] + 0.5) / of_action[action], digest[clip])
        seen[action] += 1
    count = min(max(round(share * len(ids)), 1), len(ids) - 1)
    held = set(sorted(rank, key=lambda clip: rank[clip])[:count])
    return [clip for clip in range(len(ids)) if clip not in held], sorted(held)
