"""Faults of a submission, each reported once for all its clips and frames."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence

from htt.data.sources import _text
from htt.submission.form import Expected

Name = str | int | range
"""Name of a clip, or of one or more frames."""

LINES = 20
"""Largest number of faults that are listed; the others are counted."""
_RUNS = 8
"""Largest number of runs of clips or frames that are listed in a line."""


class Faults:
    """Collector of faults."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str | None], list[Name]] = {}

    def file(self, what: str) -> None:
        """Add a fault of the whole file."""
        self._found.setdefault((what, None), [])

    def clip(self, what: str, clip: str) -> None:
        """Add a fault of a clip."""
        self._found.setdefault((what, None), []).append(clip)

    def frames(self, what: str, clip: str, frames: Iterable[Name]) -> None:
        """Add a fault of frames of a clip, given by their numbers, or by their names if those are invalid."""
        for frame in frames:
            self._found.setdefault((what, clip), []).append(frame)

    def lines(self) -> list[str]:
        """Return a line for each fault: ``missing: clips 5-9``, ``missing: clip 7: frames 120-131``, ..."""
        return [f"{what}{_where(clip, names)}" for (what, clip), names in self._found.items()]


def runs(names: Iterable[Name]) -> str:
    """Return names and numbers as text, with consecutive numbers joined to runs.

    >>> runs([5, "1", 2, range(3, 5), "a"])
    "1-5, 'a'"
    """
    spans, others = [], []
    for name in names:
        if isinstance(name, range):
            spans.append((name.start, name.stop - 1))
        elif re.fullmatch("0|[1-9][0-9]{0,8}", str(name)):
            spans.append((int(name), int(name)))
        else:
            others.append(untrusted(name))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            first, last = joined[-1][0], max(last, joined[-1][1])
            joined.pop()
        joined.append((first, last))
    parts = [str(first) if first == last else f"{first}-{last}" for first, last in joined] + others
    return ", ".join(parts[:_RUNS]) + (f" and {len(parts) - _RUNS} more" if len(parts) > _RUNS else "")


def untrusted(value: object) -> str:
    """Return an untrusted value as short text, safe for a terminal."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    return json.dumps(value) if value is None or isinstance(value, bool) else reprlib.repr(value)


def compare_clips(found: Iterable[str], expected: Expected, faults: Faults) -> None:
    """Add a fault for every missing or unexpected clip."""
    clips = dict.fromkeys(found)
    for clip in expected.frames:
        if clip not in clips:
            faults.clip("missing", clip)
    for clip in clips:
        if clip not in expected.frames:
            faults.clip("unexpected", clip)


def compare(found: Mapping[str, Iterable[int]], expected: Expected, faults: Faults) -> None:
    """Add a fault for every missing or unexpected clip and frame.

    Args:
        found: frame numbers of each clip.
        expected: expected clips and frame numbers.
        faults: collector of the faults.
    """
    compare_clips(found, expected, faults)
    total = 0
    for clip, listed in found.items():
        numbers = sorted(set(listed))
        total += len(numbers)
        if clip not in expected.frames:
            continue
        wanted = expected.frames[clip]
        if wanted is None and not numbers:
            faults.clip("a clip must have frames", clip)
            continue
        wanted = range(numbers[0], numbers[-1] + 1) if wanted is None else wanted
        faults.frames("missing", clip, _text.gaps(wanted, numbers))
        faults.frames("unexpected", clip, [number for number in numbers if number not in wanted])
    if expected.total is not None and total != expected.total:
        faults.file(f"expected {expected.total:,} frames in all, got {total:,}")


def _where(clip: str | None, names: Sequence[Name]) -> str:
    if clip is not None:
        return f": clip {runs([clip])}: {_noun('frame', names)} {runs(names)}"
    return f": {_noun('clip', names)} {runs(names)}" if names else ""


def _noun(word: str, names: Sequence[Name]) -> str:
    single = len(names) == 1 and (not isinstance(names[0], range) or len(names[0]) == 1)
    return word if single else f"{word}s"
