"""Selection of the training and validation clips.

H2O and the rendered benchmark have a validation split. FPHA has none: a fraction ``data.held_out`` of its training
clips is kept from training and used for validation, each action in proportion, always the same clips, and never one
clip of a group without the others. With ``data.held_out`` 0, as in the paper, all clips are used for training and none
for validation.
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
from htt.text import plural


@dataclass(frozen=True)
class Splits:
    """Training and validation clips; the test split is not included."""

    train: Clips
    val: Clips | None
    """Validation clips, or None if the data have no validation split and nothing is held out."""

    @property
    def info(self) -> DataInfo:
        """Facts of the data set."""
        return self.train.info


def open_splits(root: Path, config: DataConfig) -> Splits:
    """Return the training and validation clips of a folder of shards.

    Raises:
        DataError: there are no such shards, or too few clips to hold any out.
    """
    train = open_split(root, TRAIN)
    if VAL in manifest.read(root).splits:
        return Splits(train, open_split(root, VAL))
    if not config.held_out:
        return Splits(train, None)
    training, held = hold_out(train.ids, train.action.tolist(), train.groups, config.held_out)
    return Splits(train.only(training), train.only(held))


def open_named(root: Path, split: str, config: DataConfig) -> Clips:
    """Return the clips of a split; without a validation split, ``val`` is the held-out part of the training clips.

    Raises:
        DataError: there is no such split, and nothing is held out for it.
    """
    if split in (TRAIN, VAL) and VAL not in manifest.read(root).splits and config.held_out:
        splits = open_splits(root, config)
        return splits.train if split == TRAIN or splits.val is None else splits.val
    return open_split(root, split)


def coverage(root: Path, split: str, config: DataConfig) -> Coverage:
    """Return how much of a split the shards hold; for held-out clips, how much of the training split.

    Raises:
        DataError: there is no such split.
    """
    made = manifest.read(root)
    return made.coverage(_origin(made, split, config))


def incomplete(root: Path, config: DataConfig, *splits: str) -> list[str]:
    """Return a sentence for each given split that is incomplete in the shards; splits that do not exist are skipped.

    Args:
        root: folder of the shards.
        config: data configuration, with the fraction that is held out.
        splits: names of the splits to check.
    """
    made = manifest.read(root)
    origins = dict.fromkeys(_origin(made, split, config) for split in splits)
    return [warning for split in origins if split in made.splits and (warning := made.coverage(split).warning)]


def _origin(made: Manifest, split: str, config: DataConfig) -> str:
    """Return the name of the split in the shards that holds the clips of ``split``."""
    return TRAIN if split == VAL and VAL not in made.splits and config.held_out else split


def check_validation(root: Path, config: DataConfig) -> None:
    """Check that there are validation clips, for selecting trials.

    Raises:
        DataError: there is no validation split, and no clips are held out.
    """
    if VAL not in manifest.read(root).splits and not config.held_out:
        raise DataError(
            f"No validation clips to select trials by: {root} has no split '{VAL}' and data.held_out is 0. Hold out "
            "some of the training clips: --set data.held_out=0.1"
        )


def hold_out(ids: list[str], actions: list[int], groups: list[str], share: float) -> tuple[list[int], list[int]]:
    """Return the indices of the training clips and of the held-out clips, each ascending.

    Clips are ranked within their action by a digest of their id, and those with the lowest rank relative to the size
    of their action are held out, with all clips of their group: a clip that resembles a training clip would be too easy
    to recognise. So each action gives clips in proportion to its size as far as groups allow, and the choice does not
    depend on the order of clips.

    Raises:
        DataError: there is only one group of clips.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for clip, group in enumerate(groups):
        members[group].append(clip)
    if len(members) < 2:
        raise DataError(
            f"Cannot hold out validation clips: expected 2 or more groups of clips, got {len(members)} with "
            f"{plural(len(ids), 'clip')}. Set data.held_out=0."
        )
    digest = {clip: hashlib.sha256(ids[clip].encode()).hexdigest() for clip in range(len(ids))}
    of_action = Counter(actions)
    seen: dict[int, int] = defaultdict(int)
    rank = {}
    for clip in sorted(digest, key=lambda clip: digest[clip]):
        action = actions[clip]
        rank[clip] = ((seen[action] + 0.5) / of_action[action], digest[clip])
        seen[action] += 1
    count, held = max(round(share * len(ids)), 1), set[int]()
    for clip in sorted(rank, key=lambda clip: rank[clip]):
        if clip not in held and len(held) < count and len(held) + len(members[groups[clip]]) < len(ids):
            held.update(members[groups[clip]])
    return [clip for clip in range(len(ids)) if clip not in held], sorted(held)
