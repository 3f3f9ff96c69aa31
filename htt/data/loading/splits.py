"""Selection of the training and validation clips.

H2O and the rendered benchmark have a validation split. FPHA has none: a fraction ``data.held_out`` of its training
clips is kept from training and used for validation, each action in proportion, always the same clips, and never one
clip of a group without the others. With ``data.held_out`` 0, as in the paper, all clips are used for training and none
for validation.

With ``data.labelled`` below 1 the labels of some training clips alone are used; the choice is made among the clips that
are left for training.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

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
    """Return the training and validation clips of a folder of shards, the former with the labels to train on.

    Raises:
        DataError: there are no such shards, too few clips to hold any out, or none left without labels.
    """
    opened = _open_splits(root, config)
    if config.labelled == 1:
        return opened
    clips, use = opened.train, config.unlabelled
    labelled = np.zeros(len(clips), bool)
    labelled[choose_labelled(clips.ids, clips.action.tolist(), clips.groups, config.labelled)] = True
    return replace(opened, train=clips.with_labels(labelled, actions=use == "actions", poses=use == "poses"))


def _open_splits(root: Path, config: DataConfig) -> Splits:
    """Return the training and validation clips with all their labels."""
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
        splits = _open_splits(root, config)
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


def choose_labelled(ids: list[str], actions: list[int], groups: list[str], share: float) -> list[int]:
    """Return the indices, ascending, of the training clips whose labels are used.

    Groups of clips are taken one after another: first one for each action, then each time that of the next clip of the
    action of which the smallest part was taken so far, until ``share`` of the clips are taken. The order does not
    depend on the share, so a smaller share is a part of a larger one; clips of an action are ordered by a digest of
    their id, so the choice does not depend on the order of clips either.

    Raises:
        DataError: every clip was taken.
    """
    digest = [hashlib.sha256(f"labelled {clip}".encode()).hexdigest() for clip in ids]
    queues: dict[int, list[int]] = defaultdict(list)
    members: dict[str, list[int]] = defaultdict(list)
    for clip in sorted(range(len(ids)), key=digest.__getitem__, reverse=True):
        queues[actions[clip]].append(clip)
        members[groups[clip]].append(clip)
    size, taken = Counter(actions), Counter[int]()
    chosen = set[int]()
    while len(chosen) < round(share * len(ids)) or len(taken) < len(size):
        rank = {
            each: (taken[each] > 0, (taken[each] + 0.5) / size[each], digest[queue[-1]])
            for each, queue in queues.items()
        }
        new = members[groups[queues[min(rank, key=rank.__getitem__)][-1]]]
        chosen.update(new)
        taken.update(actions[clip] for clip in new)
        for each in {actions[clip] for clip in new}:
            while queues[each] and queues[each][-1] in chosen:
                queues[each].pop()
            if not queues[each]:
                del queues[each]
    if len(chosen) == len(ids):
        raise DataError(
            f"data.labelled {share:g} leaves no training clip without labels: there are {plural(len(ids), 'clip')} in "
            f"{plural(len(members), 'group')}, and each of {plural(len(size), 'action')} needs one. Set "
            "data.labelled=1, or use more clips."
        )
    return sorted(chosen)
