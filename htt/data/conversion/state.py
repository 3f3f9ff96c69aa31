"""What is finished of a conversion: enough to go on after a kill, and to see whether it is the one that was begun."""

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
"""What is finished of a conversion that is not; gone when it is."""
LEFT_OUT = "left_out.txt"
"""What was wrong with the source's files, if anything: a sentence for each."""
PROBLEMS = "left_out.json"
"""The same for programs: the problems of each split."""

_LISTS = TypeAdapter(dict[str, list[Problem]])


@dataclass(frozen=True)
class Making:
    """How shards are made of a source."""

    width: int
    height: int
    quality: int = _images.JPEG_QUALITY
    shard_bytes: int = SHARD_BYTES


class Done(BaseModel):
    """What is finished of one split."""

    clips: int = 0
    """Clips of the source that were read, with or without success."""
    shards: list[Shard] = []
    problems: list[Problem] = []

    @property
    def frames(self) -> int:
        """Frames in its shards."""
        return sum(shard.frames for shard in self.shards)


class State(BaseModel):
    """What is finished of a conversion, and of which one."""

    asked: dict[str, str | int]
    splits: dict[str, Done]


def begin(source: Source, out: Path, making: Making, wanted: Mapping[str, Sequence[Wanted]]) -> State:
    """Where to go on: the state in ``out`` if there is one and its shards are there, or nothing done.

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
    }
    fresh = State(asked=asked, splits={split: Done() for split in wanted})
    try:
        state = State.model_validate_json((out / STATE).read_text(encoding="utf-8"))
    except (FileNotFoundError, UnicodeDecodeError, ValidationError):
        return fresh  # nothing was finished, or nobody knows what
    differing = [name for name in asked if state.asked.get(name) != asked[name]]
    if differing:
        raise DataError(
            f"A conversion can only be continued as it was begun; {out} holds a part of another "
            f"({_changes(differing, state.asked, asked)}). "
            "Choose another folder, or delete that one."
        )
    whole = all(_is_there(out, shard) for done in state.splits.values() for shard in done.shards)
    return state if whole else fresh


def save(out: Path, state: State) -> None:
    """Keep what is finished."""
    with files.replacing(out / STATE) as path:
        path.write_text(state.model_dump_json(), encoding="utf-8")


def finish(out: Path, state: State, made: Manifest) -> None:
    """Write what was wrong, then the manifest, which says that all is there."""
    wrong = {split: done.problems for split, done in state.splits.items() if done.problems}
    if wrong:
        lines = [f"{split}: {problem}\n" for split, of_split in wrong.items() for problem in of_split]
        with files.replacing(out / LEFT_OUT) as path:
            path.write_text("".join(lines), encoding="utf-8")
        with files.replacing(out / PROBLEMS) as path:
            path.write_bytes(_LISTS.dump_json(wrong, indent=1))
    else:  # what an earlier conversion left here would be taken for this one's
        (out / LEFT_OUT).unlink(missing_ok=True)
        (out / PROBLEMS).unlink(missing_ok=True)
    manifest.write(out, made)
    (out / STATE).unlink(missing_ok=True)


def finished(out: Path, asked: State) -> Manifest:
    """The manifest of a folder that was finished earlier.

    Raises:
        DataError: it is not what is asked for, or a shard is missing.
    """
    found = manifest.read(out)
    manifest.check_sizes(out, found)
    there = {**found.model_dump(), "list of clips": _digest(found.wanted)}
    names = ("source", "width", "height", "quality", "pixels", "list of clips")
    differing = [name for name in names if there[name] != asked.asked[name]]
    if differing:
        changes = _changes(differing, there, asked.asked)
        raise DataError(
            f"Shards can only be made in a folder without others; {out} holds some ({changes}). Choose another folder."
        )
    return found


def problems(out: Path) -> dict[str, list[Problem]]:
    """What was wrong with the source's files, by split, of a folder that is finished.

    Raises:
        DataError: the list cannot be read.
    """
    path = out / PROBLEMS
    try:
        return _LISTS.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise DataError(f"{path} must be a list of problems; it is not. Delete {out} and convert again.") from error


def wanted(keys: Mapping[str, Sequence[ClipKey]]) -> dict[str, list[Wanted]]:
    """The clips of a source, as a manifest lists them."""
    return {
        split: [Wanted(id=key.id, first=key.first, frames=key.frames) for key in of_split]
        for split, of_split in keys.items()
    }


def _digest(wanted: Mapping[str, Sequence[Wanted]]) -> str:
    """12 hexadecimal digits that change with any clip of any split."""
    facts = {split: [(clip.id, clip.first, clip.frames) for clip in of_split] for split, of_split in wanted.items()}
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _is_there(out: Path, shard: Shard) -> bool:
    path = out / shard.file
    return path.is_file() and path.stat().st_size == shard.bytes


def _changes(names: Sequence[str], there: Mapping[str, object], asked: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {there.get(name)} there, {asked[name]} asked for" for name in names)
