"""Check of a submission; one run finds all faults.

The file is not trusted: it may have any size and content, and its headers may be false. Imports no torch.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from htt.errors import DataError
from htt.submission.faults import Faults, compare, compare_clips, untrusted
from htt.submission.form import FARTHEST_M, LABELS, LAST_ACTION, MODALITY, NEAREST_M, NUMBERS, POSES, Expected
from htt.text import plural

LARGEST_BYTES = 2**28
"""Largest size of a file, packed or not: twice H2O's test split with all digits and a line for each number."""
MOST_VALUES = 10_000_000
"""Largest number of values in a file: three times H2O's test split."""
MOST_MEMBERS = 1_000
"""Largest number of members of a zip that is read."""
LARGEST_NUMBER = 1e30
"""Largest accepted number; above it, 32-bit floats overflow."""


@dataclass(frozen=True)
class Checked:
    """Result of a check: content and faults of a file."""

    holds: str
    """Summary of the content, as ``hand_poses.json: 242 clips, 23,391 frames``."""
    faults: list[str]
    """Faults, a line for each; empty if every clip and frame is there, in the server's form."""
    checked: Sequence[str] = ()
    """Properties that were checked."""
    unchecked: Sequence[str] = ()
    """Properties that cannot be checked from the file."""


class _Object(dict[str, Any]):
    """JSON object that records its repeated keys."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs) if len(self) < len(pairs) else Counter[str]()
        self.doubled = [key for key, count in counts.items() if count > 1]


class _Unreadable(Exception):  # noqa: N818 - never leaves this file
    """Error for a file that cannot be checked further, with the reason."""


def check(path: Path, expected: Expected) -> Checked:
    """Return the content and the faults of a submission, zipped or bare.

    Raises:
        DataError: there is no such file, or it is not readable.
    """
    raw = _bytes(path)
    faults = Faults()
    try:
        if path.suffix == ".json":
            name, text = path.name, raw
        else:
            name, text = _member(raw, faults)
        content = _content(text)
        kind = name if name in (LABELS, POSES) else _guess(content)
        if name != kind:
            faults.file(f"the JSON must be named {LABELS} or {POSES}; it is named {untrusted(name)}")
        faults_of_content(kind, content, expected, faults)
        distance_m = _distance_m(content) if kind == POSES else math.nan
        _check_unit(distance_m, faults)
    except _Unreadable as error:
        faults.file(str(error))
        return Checked(f"{path.name}: unreadable", faults.lines())
    checked, unchecked = _checks(kind, content, expected, distance_m)
    return Checked(f"{kind}: {_summary(kind, content)}", faults.lines(), checked, unchecked)


def faults_of_content(kind: str, content: Mapping[str, Any], expected: Expected, faults: Faults) -> None:
    """Find the faults in the content of one of the files.

    Args:
        kind: name of the file.
        content: content of its JSON.
        expected: clips and frames it should have.
        faults: collector of the faults.
    """
    _check_doubled(content, "the file", faults)
    modality = content.get("modality")
    if not isinstance(modality, str) or not modality.strip():
        given = f"got {untrusted(modality)}" if "modality" in content else "it is missing"
        faults.file(f'"modality" must be a text that names the input of the predictions, such as "{MODALITY}"; {given}')
    clips = {clip: value for clip, value in content.items() if clip != "modality"}
    (_check_labels if kind == LABELS else _check_poses)(clips, expected, faults)


def _check_labels(clips: Mapping[str, Any], expected: Expected, faults: Faults) -> None:
    compare_clips(clips, expected, faults)
    for clip, label in clips.items():
        if type(label) is not int or not 1 <= label <= LAST_ACTION:  # a bool is an int, but no label
            faults.clip(f"an action must be a whole number of 1 to {LAST_ACTION}, not {untrusted(label)}", clip)


def _check_poses(clips: Mapping[str, Any], expected: Expected, faults: Faults) -> None:
    numbers: dict[str, list[int]] = {}
    for clip, frames in clips.items():
        if not isinstance(frames, dict):
            faults.clip(f"a clip must be an object of frames, not {untrusted(frames)}", clip)
            continue
        numbers[clip] = []
        _check_doubled(frames, f"clip {untrusted(clip)}", faults)
        for name, values in frames.items():
            if not re.fullmatch(r"[0-9]{6}\.txt", name):
                faults.frames("a frame's name must be six digits and .txt", clip, [name])
                continue
            number = int(name[:6])
            numbers[clip].append(number)
            wrong = _wrong_numbers(values)
            if wrong:
                faults.frames(wrong, clip, [number])
    broken = clips.keys() - numbers.keys()  # reported above; their missing frames need no further fault
    looked_at = {clip: wanted for clip, wanted in expected.frames.items() if clip not in broken}
    compare(numbers, Expected(looked_at, None if broken else expected.total), faults)


def _distance_m(content: Mapping[str, Any]) -> float:
    """Return the median over frames of the joints' distance from the camera, read as metres; NaN without any frame."""
    frames = [frame for clip in content.values() if isinstance(clip, dict) for frame in clip.values()]
    whole = [np.asarray(frame, float).reshape(-1, 3) for frame in frames if _wrong_numbers(frame) is None]
    return float(np.median([np.median(np.linalg.norm(joints, axis=1)) for joints in whole])) if whole else math.nan


def _check_unit(distance_m: float, faults: Faults) -> None:
    if distance_m > FARTHEST_M:
        faults.file(
            f"coordinates must be in metres; the median distance of a joint from the camera is {distance_m:,.4g}, as "
            "it would be in millimetres or another unit"
        )
    if distance_m < NEAREST_M:
        faults.file(
            f"coordinates must be in camera space, in metres; the median distance of a joint from the camera is "
            f"{distance_m:,.4g} m, as it would be relative to the wrist or in another unit"
        )


def _checks(
    kind: str, content: Mapping[str, Any], expected: Expected, distance_m: float
) -> tuple[list[str], list[str]]:
    modality = f"whether the server accepts the modality {untrusted(content.get('modality'))}"
    if kind == LABELS:
        checked = ["the id of every clip", f"that every action is a whole number of 1 to {LAST_ACTION}"]
        return checked, ["whether the actions are numbered as H2O does, from 1", modality]
    checked = ["the id of every clip", f"that every frame has {NUMBERS} finite numbers"]
    if not math.isnan(distance_m):
        checked.append(f"the unit, by the median distance of a joint from the camera: {distance_m:,.3g} m")
    unchecked = ["the order of hands and joints", modality]
    numbers = "the numbers of the frames"
    if any(frames is None for frames in expected.frames.values()):
        unchecked.insert(0, f"{numbers}, except for gaps")
    else:
        checked.insert(1, numbers)
    return checked, unchecked


def _wrong_numbers(values: Any) -> str | None:
    """Return the fault in the numbers of a frame, or None."""
    if not isinstance(values, list):
        return f"a frame must be a list of {NUMBERS} numbers, not {untrusted(values)}"
    if len(values) != NUMBERS:
        return f"a frame must have {NUMBERS} numbers, not {len(values)}"
    wrong = [v for v in values if type(v) not in (float, int) or not -LARGEST_NUMBER < v < LARGEST_NUMBER]
    return f"numbers must be finite, not {untrusted(wrong[0])}" if wrong else None


def _check_doubled(content: Mapping[str, Any], where: str, faults: Faults) -> None:
    for key in getattr(content, "doubled", ()):
        faults.file(f"{where} has {untrusted(key)} more than once")


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise DataError(f"Cannot read --check {path}: {error.strerror}.") from error
    if len(raw) > LARGEST_BYTES:
        raise DataError(f"{path} is too large: a submission has at most {LARGEST_BYTES >> 20} MiB.")
    return raw


def _member(raw: bytes, faults: Faults) -> tuple[str, bytes]:
    """Return the name and text of the only file in a zip."""
    if raw.count(b"PK\x01\x02") > MOST_MEMBERS:  # before Python creates an object for each member
        raise _Unreadable("a zip must have one member, this one has thousands")
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = archive.infolist()
            if not members:
                raise _Unreadable("a zip must have one member, this one is empty")
            chosen = next((member for member in members if member.filename in (LABELS, POSES)), members[0])
            others = [untrusted(member.filename) for member in members if member is not chosen]
            if others:
                more = f" and {len(others) - 5} more" if len(others) > 5 else ""
                faults.file(f"a zip must have one member; beside {untrusted(chosen.filename)} there is "
                            f"{', '.join(others[:5])}{more}")  # fmt: skip
            if chosen.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a limit
                raise _Unreadable("a zip must be stored or deflated; this one has another compression")
            with archive.open(chosen) as file:
                text = file.read(LARGEST_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise _Unreadable(f"cannot unpack the zip: {error}") from error
    if len(text) > LARGEST_BYTES:
        raise _Unreadable(f"its JSON must have at most {LARGEST_BYTES >> 20} MiB; it has more")
    return chosen.filename, text


def _content(text: bytes) -> _Object:
    """Return the object in a JSON text."""
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MOST_VALUES:
        raise _Unreadable(f"its JSON must have at most {MOST_VALUES:,} values; it has more")
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise _Unreadable(f"invalid JSON: {error}") from error
    if not isinstance(content, _Object):
        raise _Unreadable(f"its JSON must be an object; got {untrusted(content)}")
    return content


def _guess(content: Mapping[str, Any]) -> str:
    """Return which of the files a content with another name is."""
    return POSES if any(isinstance(value, dict) for value in content.values()) else LABELS


def _summary(kind: str, content: Mapping[str, Any]) -> str:
    clips = [value for clip, value in content.items() if clip != "modality"]
    if kind == LABELS:
        actions = len({label for label in clips if type(label) is int})
        return f"{plural(len(clips), 'clip')}, {plural(actions, 'different action')}"
    frames = sum(len(frames) for frames in clips if isinstance(frames, dict))
    return f"{plural(len(clips), 'clip')}, {plural(frames, 'frame')}"
