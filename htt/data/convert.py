"""Convert a data set into shards, on all cores.

::

    python -m htt.data.convert --source h2o --root FOLDER --out SHARDS

An interrupted conversion goes on where it stopped when the same command is given again: finished shards are kept. Files
that are missing or cannot be read are left out and listed at the end. The shards are the same bytes whatever the number
of workers.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from htt import console, parallel
from htt.data import files, manifest, pixels
from htt.data.manifest import Manifest, Shard
from htt.data.shards import SHARD_BYTES, ShardWriter
from htt.data.source import ClipKey, ClipRecord, Source, open_source
from htt.errors import DataError

STATE = "converting.json"
"""What is finished of a conversion that is not; gone when it is."""
LEFT_OUT = "left_out.txt"
"""What could not be read, if anything: a line for each file."""


@dataclass(frozen=True)
class Making:
    """How shards are made of a source."""

    width: int
    height: int
    quality: int = pixels.JPEG_QUALITY
    shard_bytes: int = SHARD_BYTES


class Done(BaseModel):
    """What is finished of one split."""

    clips: int = 0
    """Clips of the source that were read, with or without success."""
    shards: list[Shard] = []


class State(BaseModel):
    """What is finished of a conversion, and of which one."""

    asked: dict[str, str | int]
    splits: dict[str, Done]
    problems: list[str] = []


def convert(
    source: Source,
    out: Path,
    making: Making,
    *,
    workers: int | None = None,
    title: str = "Converting",
) -> tuple[Manifest, list[str]]:
    """Make shards of a source in the folder ``out``, or go on making them: their manifest, and what was left out.

    Raises:
        DataError: ``out`` holds shards made in another way, or no clip could be read.
        StorageError: the disk is full, or may not be written to; what was finished is kept.
    """
    keys = {split: source.clips(split) for split in source.splits}
    with files.alone(out / ".lock"):
        files.remove_parts(out)
        return _convert(source, out, making, keys, workers=workers, title=title)


def _convert(
    source: Source,
    out: Path,
    making: Making,
    keys: dict[str, list[ClipKey]],
    *,
    workers: int | None,
    title: str,
) -> tuple[Manifest, list[str]]:
    state = _begin(source, out, making, keys)
    if (out / manifest.NAME).is_file():
        return _finished(out, state), _read_problems(out)
    todo = [(split, key) for split in keys for key in keys[split][state.splits[split].clips :]]
    _read_all(functools.partial(_read, source, making), todo, state, out, making, workers=workers, title=title)
    if not any(done.shards for done in state.splits.values()):
        raise DataError("A data set must have a clip that can be read; none could:\n" + listed(state.problems))
    made = _manifest(source, making, state)
    if state.problems:
        with files.replacing(out / LEFT_OUT) as path:
            path.write_text("\n".join(state.problems) + "\n", encoding="utf-8")
    manifest.write(out, made)
    (out / STATE).unlink(missing_ok=True)
    return made, state.problems


def _read(source: Source, making: Making, item: tuple[str, ClipKey]) -> tuple[ClipRecord | None, list[str]]:
    return source.read(item[1], making.width, making.height, making.quality)


def _read_all(
    read: functools.partial[tuple[ClipRecord | None, list[str]]],
    todo: list[tuple[str, ClipKey]],
    state: State,
    out: Path,
    making: Making,
    *,
    workers: int | None,
    title: str,
) -> None:
    """Read clips and write them, in order; ``state`` and its file follow every finished shard."""
    done = sum(each.clips for each in state.splits.values())
    results = parallel.map(
        read, todo, title=title, unit="clips", workers=workers, amount=_frames, of="frames", done=done
    )
    taken = {split: each.clips for split, each in state.splits.items()}
    problems = list(state.problems)
    writer: ShardWriter | None = None
    with contextlib.closing(results):
        for index, ((split, _), (record, found)) in enumerate(zip(todo, results, strict=True)):
            writer = writer or ShardWriter(out, split, len(state.splits[split].shards), making.shard_bytes)
            taken[split] += 1
            problems += [f"{split}: {problem}" for problem in found]
            last = index + 1 == len(todo) or todo[index + 1][0] != split
            shard = writer.add(record) if record else None
            for each in (shard, writer.close() if last else None):
                if each:
                    state.splits[split].shards.append(each)
            if shard or last:
                state.splits[split].clips, state.problems = taken[split], list(problems)
                _save(out, state)
            if last:
                writer = None


def _frames(result: tuple[ClipRecord | None, list[str]]) -> int:
    return len(result[0].jpegs) if result[0] else 0


def _begin(source: Source, out: Path, making: Making, keys: dict[str, list[ClipKey]]) -> State:
    """Where to go on: the state in ``out``, if it is of this conversion and its shards are there."""
    asked: dict[str, str | int] = {
        "source": source.name,
        "width": making.width,
        "height": making.height,
        "quality": making.quality,
        "pixels": source.pixels,
        "shard_bytes": making.shard_bytes,
        "clips": ", ".join(f"{len(of_split)} {split}" for split, of_split in keys.items()),
    }
    fresh = State(asked=asked, splits={split: Done() for split in keys})
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


def _is_there(out: Path, shard: Shard) -> bool:
    path = out / shard.file
    return path.is_file() and path.stat().st_size == shard.bytes


def _finished(out: Path, asked: State) -> Manifest:
    """The manifest of a folder that was finished earlier, if it is what is asked for."""
    found = manifest.read(out)
    manifest.check_sizes(out, found)
    names = ("source", "width", "height", "quality", "pixels")
    differing = [name for name in names if getattr(found, name) != asked.asked[name]]
    if differing:
        changes = "; ".join(
            f"{name}: {getattr(found, name)} there, {asked.asked[name]} asked for" for name in differing
        )
        raise DataError(
            f"Shards can only be made in a folder without others; {out} holds some ({changes}). Choose another folder."
        )
    return found


def _changes(names: list[str], there: Mapping[str, object], asked: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {there.get(name)} there, {asked[name]} asked for" for name in names)


def _save(out: Path, state: State) -> None:
    with files.replacing(out / STATE) as path:
        path.write_text(state.model_dump_json(), encoding="utf-8")


def _manifest(source: Source, making: Making, state: State) -> Manifest:
    info = source.info(making.width, making.height)
    return Manifest(
        source=info.source,
        actions=list(info.actions),
        objects=list(info.objects),
        hands=info.hands,
        width=info.width,
        height=info.height,
        quality=making.quality,
        pixels=source.pixels,
        splits={split: done.shards for split, done in state.splits.items()},
    )


def _read_problems(out: Path) -> list[str]:
    path = out / LEFT_OUT
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def listed(problems: list[str]) -> str:
    """Problems, one a line."""
    return "\n".join(f"  - {problem}" for problem in problems)


@dataclass
class Options(console.Options):
    """Convert a data set into shards: memory-mapped files that training reads."""

    source: str
    """The kind of data: a module of htt/data/sources, such as h2o."""
    out: Path
    """Folder for the shards; data.root of a training."""
    root: Path | None = None
    """Folder of the data set."""
    width: int = 480
    """Of the frames, px."""
    height: int = 270
    """Of the frames, px."""
    quality: int = pixels.JPEG_QUALITY
    """Of the frames' JPEGs, 1 to 100."""
    workers: int | None = None
    """Clips converted at once; none: one a core."""


def main(options: Options) -> None:
    """Convert, and list what was left out."""
    sizes = {"--width": (options.width, 16, 2**14), "--height": (options.height, 16, 2**14)}
    limits = {**sizes, "--quality": (options.quality, 1, 100), "--workers": (options.workers or 1, 1, 2**16)}
    wrong = [f"{name} must be {low} to {high}; got {value}" for name, (value, low, high) in limits.items()
             if not low <= value <= high]  # fmt: skip
    if wrong:
        raise DataError("; ".join(wrong) + ".")
    source = open_source(options.source, options.root)
    making = Making(options.width, options.height, options.quality)
    made, problems = convert(source, options.out, making, workers=options.workers, title=f"Converting {source.name}")
    for split in made.splits:
        clips, frames = made.count(split)
        console.out.print(f"{split}: {clips} clips, {frames:,} frames in {len(made.splits[split])} shards")
    if problems:
        console.out.print(f"{len(problems)} files or clips were left out:\n{listed(problems)}", markup=False)
    console.out.print(
        f"Train on them with: --set data.source={made.source} --set data.root={options.out}", markup=False
    )


if __name__ == "__main__":
    console.run(Options, main)
