"""Convert a data set into shards, on all cores, or on all machines when submitted as a Ray job.

::

    python -m htt.data.convert --source h2o --root FOLDER --out SHARDS
    python -m htt.data.convert --source fpha --root FOLDER --out SHARDS --poses-only   # without images

Repeat the command to resume an interrupted conversion: finished shards are kept. Files that are missing or cannot be
read are left out and listed at the end. The bytes of the shards do not depend on the number of workers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from htt import console, registry
from htt.data import sources
from htt.data.conversion import state, summary
from htt.data.conversion.run import convert, keys_of
from htt.data.conversion.state import Making
from htt.data.shards import arrow
from htt.data.shards.manifest import TRAIN, Manifest
from htt.data.sources import ClipKey, Source, _images, _text, open_source
from htt.errors import ConfigError, DataError
from htt.text import plural

LEFT_OUT = state.LEFT_OUT
MADE_HERE = "synthetic"
"""The source that needs no folder, because its clips are rendered."""


@dataclass
class Options(console.Options):
    """Convert a data set into shards: memory-mapped files that training reads."""

    source: str
    """Data source: a module of htt/data/sources, such as h2o."""
    out: Path
    """Folder for the shards; data.root of a training."""
    root: console.OptionalPath = None
    """Folder of the data set."""
    width: int = 480
    """Width of the frames, px."""
    height: int = 270
    """Height of the frames, px."""
    quality: int = _images.JPEG_QUALITY
    """Quality of the frames' JPEGs, 1 to 100."""
    poses_only: bool = False
    """Convert the hand poses without the images, which then need not exist; --width and --height say how large the
    images would be."""
    workers: console.OptionalInt = None
    """Number of clips converted at once (default: one per core)."""


def main(options: Options) -> None:
    """Print what the source contains, convert it, and print the result and the next commands."""
    _check(options)
    source = open_source(options.source, options.root)
    keys = keys_of(source)
    _print_contents(source, keys)
    making = Making(options.width, options.height, 0 if options.poses_only else options.quality)
    title = f"Converting {source.name}"
    made, _ = convert(source, options.out, making, workers=options.workers, title=title, keys=keys)
    lines = [*summary.lines(options.out, made), "", "Next:", *_next_commands(source.name, options.out, made)]
    console.out.print(_text.printable("\n".join(lines)), markup=False)


def _check(options: Options) -> None:
    """Raise one error that lists every invalid option."""
    faults = "; ".join([*_wrong_numbers(options), *_wrong_folders(options)])
    messages = [f"{faults}."] if faults else []
    try:
        registry.load(sources, options.source)
    except ConfigError as error:
        messages.append(str(error))
    if messages:
        raise DataError(" ".join(messages))


def _wrong_numbers(options: Options) -> list[str]:
    sizes = {"--width": (options.width, 16, 2**14), "--height": (options.height, 16, 2**14)}
    workers = 1 if options.workers is None else options.workers
    limits = {**sizes, "--quality": (options.quality, 1, 100), "--workers": (workers, 1, 2**16)}
    return [f"{name} must be {low} to {high}; got {value}" for name, (value, low, high) in limits.items()
            if not low <= value <= high]  # fmt: skip


def _wrong_folders(options: Options) -> list[str]:
    root, out, faults = options.root, options.out, []
    if root is None and options.source != MADE_HERE:
        faults.append("--root is required: the folder of the data set")
    if root is not None and not root.is_dir():
        faults.append(f"--root must be the folder of the data set; got {root}, which is not a folder")
    elif root is not None and out.resolve().is_relative_to(root.resolve()):
        faults.append(f"--out must be outside --root, to keep shards and source files apart; got {out}")
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(out)):
        uri = str(out).replace(":/", "://", 1)  # a Path keeps one of a URI's two slashes
        return [
            *faults,
            f"--out must be a local folder; got {uri}. Convert into a local folder, then copy it: python -m "
            f"htt.data.publish --shards FOLDER --to {uri}",
        ]
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir():
        faults.append(f"--out must be a folder or a new path; got {out}, but {existing} is a file")
    return faults


def _print_contents(source: Source, keys: Mapping[str, Sequence[ClipKey]]) -> None:
    counts = [
        f"{split} {plural(len(of_split), 'clip')}, {plural(sum(key.frames for key in of_split), 'frame')}"
        for split, of_split in keys.items()
    ]
    console.out.print(f"Found {source.name}: {'; '.join(counts)}", markup=False)
    for difference in source.differences():
        console.out.print(f"note: {difference}", markup=False)


def _next_commands(source: str, out: Path, made: Manifest) -> list[str]:
    data = f"--set data.source={source} --set {shlex.quote(f'data.root={out}')}"
    if made.poses_only:
        return [f"  python cluster/launch.py --preset poses {data}", f"  python tune/search.py --space poses {data}"]
    if source == MADE_HERE:
        return [f"  python tune/search.py {data}"]
    shards = made.splits.get(TRAIN, [])
    known = any(arrow.knows_hands(out / shard.file) for shard in shards)
    select = "" if known else " --metric action_accuracy"
    return [
        f"  python cluster/launch.py --preset paper {data}",
        f"  python tune/search.py --space paper {data}{select}",
    ]


if __name__ == "__main__":
    console.run(Options, main)
