"""H2O's lists: clips of each split, and frames that have a hand pose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from htt.data.sources import _text
from htt.errors import DataError

UNKNOWN = -1
"""Index of an unknown action, such as that of a test clip."""
_HEADER = "id path action_label start_act end_act start_frame end_frame"
_HEADERS = {_HEADER: True, _HEADER.replace(" action_label", ""): False}
"""First lines of label files; True if the clips have an action."""
_RECORDING = re.compile(r"[\w-]+(/[\w-]+)+")
_POSE = re.compile(r"(?:.*/)?(subject\d+)(?:_ego)?/([\w-]+)/([\w-]+)/cam(\d)/(?:.*\D)?(\d{6})\D*")
_HEAD_CAMERA = "4"


class Label(NamedTuple):
    """Line of a label file; ``first`` and ``last`` are inclusive."""

    id: str
    recording: str
    action: int
    first: int
    last: int

    @property
    def numbers(self) -> range:
        """Numbers of the frames."""
        return range(self.first, self.last + 1)


def labels(path: Path, actions: int, unlabelled: bool = False) -> list[Label]:
    """Read the clips of a label file, in its order.

    Args:
        path: path of the file.
        actions: number of actions.
        unlabelled: True if clips may have no action, as in the test split.

    Raises:
        DataError: the file cannot be read or has invalid lines; lists them.
    """
    lines = _text.lines(path)
    header = " ".join(lines[0].split()) if lines else ""
    if header not in _HEADERS:
        raise DataError(
            f"Invalid {_text.printable(path)}: expected the header '{_HEADER}' (without action_label in a test "
            f"split), got '{header[:80]}'. Get the file again."
        )
    if not _HEADERS[header] and not unlabelled:
        raise DataError(
            f"Invalid {_text.printable(path)}: expected the action of each clip, got the header '{header}' of a test "
            "split. Get the file again."
        )
    entries, faults, seen = [], [], dict[str, int]()
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        try:
            label = _label(line.split(), _HEADERS[header], actions)
            if seen.setdefault(label.id, number) != number:
                raise ValueError(f"repeats the id {label.id} of line {seen[label.id]}")
            entries.append(label)
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    _text.refuse(path, "one clip per line", faults)
    return entries


def shared(of_splits: Mapping[str, Sequence[Label]]) -> list[str]:
    """Return the pairs of clips that share frames of a recording, in one split or in two, one sentence per pair."""
    of_recording: dict[str, list[tuple[Label, str]]] = {}
    for split, of_split in of_splits.items():
        for label in of_split:
            of_recording.setdefault(label.recording, []).append((label, split))
    lines = []
    for recording, clips in of_recording.items():
        ordered = sorted(clips, key=lambda clip: clip[0].first)
        for index, (label, split) in enumerate(ordered):
            for other, other_split in ordered[index + 1 :]:
                if other.first > label.last:
                    break
                words = f"{split} clip {label.id} and {other_split} clip {other.id} share frames {other.first} to "
                actions = f", as actions {label.action + 1} and {other.action + 1}"
                lines.append(
                    f"{words}{min(label.last, other.last)} of {recording}"
                    + (actions if label.action != other.action else "")
                )
    return lines


def _label(words: list[str], labelled: bool, actions: int) -> Label:
    """Parse the words of a line."""
    if len(words) != 6 + labelled:
        raise ValueError(f"expected {6 + labelled} words, got {len(words)}")
    if not _RECORDING.fullmatch(words[1]):
        raise ValueError(f"'{words[1]}' is not a recording such as subject1/h1/0")
    action = _text.whole(words[2]) - 1 if labelled else UNKNOWN
    if labelled and not 0 <= action < actions:
        raise ValueError(f"expected an action from 1 to {actions}, got {words[2]}")
    first, last, start, end = (_text.whole(word) for word in words[-4:])
    if last < first:
        raise ValueError(f"the action ends in frame {last}, before its start in frame {first}")
    if first < start or last > end:
        raise ValueError(f"the action, frames {first} to {last}, is outside its recording, frames {start} to {end}")
    return Label(words[0], words[1], action, first, last)


def poses(path: Path) -> dict[str, set[int]] | None:
    """Read the head camera frames of each recording in a pose list; return None if the form of the list is unknown.

    Raises:
        DataError: the file cannot be read, or some of its lines name no frame; lists them.
    """
    numbers: dict[str, set[int]] = {}
    faults = []
    for number, line in enumerate(_text.lines(path), start=1):
        match = _POSE.fullmatch(line.strip().replace("\\", "/"))
        if match and match[4] == _HEAD_CAMERA:
            numbers.setdefault("/".join(match.group(1, 2, 3)), set()).add(int(match[5]))
        elif not match and line.strip():
            faults.append(
                f"line {number}: '{line.strip()[:80]}' is not a frame such as subject1/h1/0/cam4/rgb/000000.png"
            )
    if faults and not numbers:
        return None  # a list of unknown form is ignored: the files in hand_pose show which frames have a pose
    _text.refuse(path, "one frame per line", faults)
    return numbers
