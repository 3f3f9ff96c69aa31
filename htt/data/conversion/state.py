"""State of a conversion, saved so that it can be resumed after a kill and compared with the requested one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from htt import files
from htt.data.shards import manifest
from htt.data.shards.arrow import SHARD_BYTES
from htt.data.shards.manifest import Manifest, Shard, Wanted
from htt.data.sources import ClipKey, Problem, Source, _images
from htt.errors import DataError

STATE = "converting.json"
"""File with the state of an unfinished conversion; deleted when the conversion is complete."""
LABELS = "labels"
"""Name of the setting that changes with the labels in a table of own data."""
LEFT_OUT = "left_out.txt"
"""Text file with the problems of the source, one sentence per line; absent if there are none."""
PROBLEMS = "left_out.json"
"""JSON file with the problems of each split, for programs."""

_LISTS = TypeAdapter(dict[str, list[Problem]])


@dataclass(frozen=True)
class Making:
    """Settings of a conversion."""

    width: int
    height: int
    quality: int = _images.JPEG_QUALITY
    """Quality of the JPEGs, or 0 for poses without images."""
    shard_bytes: int = SHARD_BYTES


class SplitState(BaseModel):
    """Finished part of one split."""

    clips: int = 0
    """Number of clips that were read, with or without success."""
    shards: list[Shard] = []
    problems: list[Problem] = []

    @property
    def frames(self) -> int:
        """Number of frames in the finished shards."""
        return sum(shard.frames for shard in self.shards)


class State(BaseModel):
    """Finished part of a conversion, and the settings it was started with."""

    asked: dict[str, str | int]
    splits: dict[str, SplitState]


def begin(source: Source, out: Path, making: Making, wanted: Mapping[str, Sequence[Wanted]]) -> State:
    """Return the saved state in ``out`` if its shards exist, or an empty state.

    Raises:
        DataError: ``out`` holds a part of another conversion.
    """
    asked: dict[str, str | int] = {
        "source": source.name,
        "width": making.width,
        "height": making.height,
        "quality": making.quality,
        "pixels": source.pixels,
        "shard_bytes": making.shard_bytes,
        "clips": ", ".join(f"{len(of_split)} {split}" for split, of_split in wanted.items()),
        "list of clips": _digest(wanted),
        **({LABELS: table} if (table := table_of(source)) else {}),
    }
    fresh = State(asked=asked, splits={split: SplitState() for split in wanted})
    try:
        state = State.model_validate_json((out / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, ValidationError):
        return fresh  # no finished part, or an unreadable state file
    differing = [name for name in asked if state.asked.get(name) != asked[name]]
    if differing:
        raise DataError(
            f"Cannot resume the conversion in {out} with other settings ({_changes(differing, state.asked, asked)}). "
            "Choose another folder, or delete it."
        )
    whole = all(_is_there(out, shard) for done in state.splits.values() for shard in done.shards)
    return state if whole else fresh


def table_of(source: Source) -> str | None:
    """Return the digest of a table of labels that people edit, or None for a source without one."""
    table: str | None = getattr(source, "table_digest", None)
    return table


def save(out: Path, state: State) -> None:
    """Save the state."""
    files.write_text(out / STATE, state.model_dump_json())


def finish(out: Path, state: State, made: Manifest) -> None:
    """Write the problems, then the manifest, which marks the folder as complete."""
    wrong = {split: done.problems for split, done in state.splits.items() if done.problems}
    if wrong:
        lines = [f"{split}: {problem}\n" for split, of_split in wrong.items() for problem in of_split]
        files.write_text(out / LEFT_OUT, "".join(lines))
        files.write_bytes(out / PROBLEMS, _LISTS.dump_json(wrong, indent=1))
    else:  # files of an earlier conversion would be taken for those of this one
        (out / LEFT_OUT).unlink(missing_ok=True)
        (out / PROBLEMS).unlink(missing_ok=True)
    manifest.write(out, made)
    (out / STATE).unlink(missing_ok=True)


def finished(out: Path, asked: State) -> Manifest:
    """Return the manifest of a folder that was completed earlier.

    Raises:
        DataError: it was made with other settings, or a shard is missing.
    """
    found = manifest.read(out)
    manifest.check_sizes(out, found)
    existing = {**found.model_dump(), "list of clips": _digest(found.wanted)}
    names = ["source", "width", "height", "quality", "pixels", "list of clips"]
    if found.table_digest is not None and LABELS in asked.asked:
        existing[LABELS], names = found.table_digest, [*names, LABELS]
    differing = [name for name in names if existing[name] != asked.asked[name]]
    if differing:
        changes = _changes(differing, existing, asked.asked)
        raise DataError(f"{out} already holds shards with other settings ({changes}). Choose another folder.")
    return found


def problems(out: Path) -> dict[str, list[Problem]]:
    """Return the problems of a completed conversion, by split.

    Raises:
        DataError: the list cannot be read.
    """
    path = out / PROBLEMS
    try:
        return _LISTS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise DataError(f"Invalid {path}: expected a list of problems. Delete {out} and convert again.") from error


def wanted(keys: Mapping[str, Sequence[ClipKey]]) -> dict[str, list[Wanted]]:
    """Return the clips of a source as manifest entries, by split."""
    return {
        split: [Wanted(id=key.id, first=key.first, frames=key.frames) for key in of_split]
        for split, of_split in keys.items()
    }


def _digest(wanted: Mapping[str, Sequence[Wanted]]) -> str:
    """Return 12 hexadecimal digits that change with any clip of any split."""
    facts = {split: [(clip.id, clip.first, clip.frames) for clip in of_split] for split, of_split in wanted.items()}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _is_there(out: Path, shard: Shard) -> bool:
    path = out / shard.file
    return path.is_file() and path.stat().st_size == shard.bytes


def _changes(names: Sequence[str], existing: Mapping[str, object], asked: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: existing {existing.get(name)}, requested {asked[name]}" for name in names)
