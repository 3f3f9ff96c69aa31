"""FPHA's lists: actions and objects, clips of each split, and number of frames of each clip."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from htt.data.sources import _frames, _text

TABLE = "action_object_info.txt"
SPLIT = "data_split_action_recognition.txt"
INFOS = "Subjects_info"
_HEADERS = {"training": "train", "test": "test"}
_CLIP = re.compile(r"Subject_\d+/[\w-]+/\d+")
_INFO_HEADER_LINES = 3
_MOST_FRAMES = 99_999
_LEAST_COLUMNS = 4
"""Number, action, object and its pose; a row that was cut within its object has fewer."""


@dataclass(frozen=True)
class ActionTable:
    """Actions and their objects."""

    objects_of: dict[str, str]
    """Object of each action, in the order of the file."""

    @property
    def actions(self) -> tuple[str, ...]:
        """Names of the actions in the order of the file, which is that of the released weights."""
        return tuple(self.objects_of)

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects in the order of their first appearance."""
        return tuple(dict.fromkeys(self.objects_of.values()))

    def labels(self, action: str) -> tuple[int, int]:
        """Return the indices of an action and its object."""
        return self.actions.index(action), self.objects.index(self.objects_of[action])


def table(root: Path) -> ActionTable:
    """Read the actions and objects of the data set.

    Raises:
        DataError: the file cannot be read, or its lines are not the actions 1, 2, 3 and so on.
    """
    path = _frames.find(root, TABLE)
    lines = [line.split() for line in _text.lines(path)[1:] if line.strip()]
    columns = Counter(map(len, lines)).most_common(1)[0][0] if lines else 0
    objects_of: dict[str, str] = {}
    faults = []
    for number, words in enumerate(lines, start=1):
        if len(words) < _LEAST_COLUMNS or len(words) != columns:
            faults.append(f"row {number} has {len(words)} words, most have {columns}")
        elif words[0] != str(number):
            faults.append(f"row {number} has number {words[0]}")
        elif words[1] in objects_of:
            faults.append(f"row {number} repeats the action {words[1]}")
        else:
            objects_of[words[1]] = words[2]
    if not lines:
        faults.append("it has no rows")
    _text.refuse(path, "a header, then the actions 1, 2, 3 and so on, one per line", faults)
    return ActionTable(objects_of)


def clips(root: Path, known: ActionTable) -> dict[str, list[str]]:
    """Read the ids of the clips of each split, in the order of the file: "Subject_1/open_juice_bottle/2".

    Raises:
        DataError: the file cannot be read, has another number of lines than its headers say, or has an invalid line.
    """
    path = _frames.find(root, SPLIT)
    ids: dict[str, list[str]] = {}
    announced: dict[str, int] = {}
    faults = []
    split, seen = "", set[str]()
    for number, line in enumerate(_text.lines(path), start=1):
        words = line.split()
        try:
            if words and words[0].lower() in _HEADERS:
                split = _HEADERS[words[0].lower()]
                if split in ids:
                    raise ValueError(f"'{words[0]}' occurs again")
                ids[split] = []
                announced[split] = _text.whole(" ".join(words[1:]))
            elif words:
                _check_clip(words, split, seen, known)
                ids[split].append(words[0])
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    faults += [f"missing line '{header.capitalize()} ...'" for header in _HEADERS if _HEADERS[header] not in ids]
    faults += [
        f"{split} has {len(ids[split])} clips, its header says {count}"
        for split, count in announced.items()
        if not faults and len(ids[split]) != count
    ]
    _text.refuse(path, "'Training' and 'Test', each with a number and followed by that many clips", faults)
    return ids


def _check_clip(words: list[str], split: str, seen: set[str], known: ActionTable) -> None:
    if not split or len(words) != 2 or not _CLIP.fullmatch(words[0]):
        raise ValueError(f"'{' '.join(words)[:80]}' is not a clip such as 'Subject_1/open_juice_bottle/2 0'")
    if words[0] in seen:
        raise ValueError(f"{words[0]} occurs again")
    seen.add(words[0])
    action = words[0].split("/")[1]
    if action not in known.objects_of:
        raise ValueError(f"the action {action} is not in {TABLE}")
    if _text.whole(words[1]) != known.actions.index(action):
        raise ValueError(f"{action} has class {words[1]}, but in {TABLE} it is row {known.actions.index(action) + 1}")


def info_file(root: Path, subject: str) -> Path:
    """Return the path of the file with the frame counts of a subject's clips."""
    return _frames.find(root, f"{INFOS}/{subject}_info.txt")


def frame_counts(root: Path, subject: str) -> dict[str, int]:
    """Read the frame count of each clip of a subject, by clip id; clips with contradictory counts are left out.

    Raises:
        UnreadableError: the file cannot be read.
    """
    counts_of: dict[str, set[int]] = {}
    for line in _text.text(info_file(root, subject)).splitlines()[_INFO_HEADER_LINES:]:
        words = line.split()
        try:
            action, instance, count = words[0], _text.whole(words[1]), _text.whole(words[2])
        except (IndexError, ValueError):
            continue  # a clip without a row is reported when it is read
        if len(words) == 3 and 0 < count <= _MOST_FRAMES:
            counts_of.setdefault(f"{subject}/{action}/{instance}", set()).add(count)
    return {clip: min(counts) for clip, counts in counts_of.items() if len(counts) == 1}
