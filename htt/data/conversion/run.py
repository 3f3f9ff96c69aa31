"""Conversion of a source into shards: clips are read on all cores and written in order.

The bytes of the shards depend neither on the number of workers nor on interruptions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from htt import files, parallel
from htt.data.conversion import state as conversion_state
from htt.data.conversion.state import Making, State
from htt.data.shards import arrow, labels, manifest
from htt.data.shards.arrow import ShardWriter
from htt.data.shards.manifest import Manifest, Shard
from htt.data.sources import HANDS_NOT_KNOWN, ClipKey, ClipRecord, Problem, Source, _text
from htt.errors import DataError, bullets

SHOWN = 10
"""Number of problems listed in an error message."""

TRAINED = ("train", "val")
"""Splits that need frames with known hands; a test split may have none."""

Item = tuple[str, ClipKey]
"""Split and clip."""
Read = tuple[ClipRecord | None, list[Problem]]
"""Record of a clip, or None if it cannot be read, and its problems."""


def keys_of(source: Source) -> dict[str, list[ClipKey]]:
    """Return all clips of a source, by split.

    Raises:
        DataError: files of the source are missing, or a list of its clips cannot be read.
    """
    return {split: source.clips(split) for split in source.splits}


def convert(
    source: Source,
    out: Path,
    making: Making,
    *,
    workers: int | None = None,
    title: str = "Converting",
    keys: Mapping[str, Sequence[ClipKey]] | None = None,
    encoding: manifest.Encoding | None = None,
    gpus: bool = False,
) -> tuple[Manifest, list[Problem]]:
    """Convert a source into shards in the folder ``out``, or resume the conversion.

    Args:
        source: source of the clips.
        out: output folder; one process at a time writes to it, others wait.
        making: size and quality of the frames, and size of the shards.
        workers: number of clips read at once, or None for one per core.
        title: title of the progress line.
        keys: clips of the source, or None to get them from ``source``.
        encoding: how the source makes features, or None if it has frames.
        gpus: True if reading a clip uses a GPU where there is one.

    Returns:
        The manifest of the shards, and the problems of the source.

    Raises:
        DataError: ``out`` holds shards made with other settings, or no clip could be read.
        StorageError: the disk is full or not writable; finished shards are kept.
    """
    keys = keys_of(source) if keys is None else keys
    with files.locked(out / ".lock", f"Another process writes {out}; waiting for it."):
        files.remove_parts(out)
        wanted = conversion_state.wanted(keys)
        state = conversion_state.begin(source, out, making, wanted)
        if (out / manifest.NAME).is_file():
            made = conversion_state.finished(out, state)
            return made, [problem for of_split in conversion_state.problems(out).values() for problem in of_split]
        read = functools.partial(_read, source, making)
        _read_all(read, keys, state, out, making, workers=workers, title=title, gpus=gpus)
        problems = [problem for done in state.splits.values() for problem in done.problems]
        if not any(done.shards for done in state.splits.values()):
            raise DataError(f"No clip of the data set can be read:\n{bullets(problems, SHOWN)}")
        label_file = labels.write(out, {split: done.shards for split, done in state.splits.items()})
        made = _manifest(source, making, state, wanted).model_copy(update={"labels": label_file, "encoding": encoding})
        conversion_state.finish(out, state, made)
        return made, problems


def _read(source: Source, making: Making, item: Item) -> Read:
    record, problems = source.read(item[1], making.width, making.height, making.quality)
    if record and not making.quality:
        record = dataclasses.replace(record, jpegs=[])
    return record, [_printable(problem) for problem in problems]


def _printable(problem: Problem) -> Problem:
    """Return a problem whose text can be written as UTF-8: names of files may hold bytes that are not valid text."""
    what, detail = _text.printable(problem.what), _text.printable(problem.detail)
    return dataclasses.replace(problem, what=what, detail=detail)


def _read_all(
    read: Callable[[Item], Read],
    keys: Mapping[str, Sequence[ClipKey]],
    state: State,
    out: Path,
    making: Making,
    *,
    workers: int | None,
    title: str,
    gpus: bool,
) -> None:
    """Read clips and write them in order; update ``state`` and its file after every finished shard."""
    todo = [(split, key) for split in keys for key in keys[split][state.splits[split].clips :]]
    results = parallel.map(
        read,
        todo,
        title=title,
        unit="clips",
        workers=workers,
        amount=_frames(keys, state),
        done=sum(done.clips for done in state.splits.values()),
        gpus=gpus,
    )
    writer: _Writer | None = None
    with contextlib.closing(results):
        for index, ((split, _), (record, problems)) in enumerate(zip(todo, results, strict=True)):
            writer = writer or _Writer(state, out, split, making.shard_bytes)
            last = index + 1 == len(todo) or todo[index + 1][0] != split
            writer.take(record, problems, last=last)
            writer = None if last else writer
            if last and split in TRAINED:
                _check_known(out, state, split)


def _check_known(out: Path, state: State, split: str) -> None:
    """Check that a split for training or validation has at least one frame with a known hand, if it should have some.

    It need not if no problem says that hands are not known: the source then has none.

    Raises:
        DataError: no clip could be read, or no frame has a known hand. The state of the conversion is deleted, because
            the missing files would change all shards.
    """
    done = state.splits[split]
    if any(arrow.knows_hands(out / shard.file) for shard in done.shards):
        return
    problems = bullets(done.problems, SHOWN)
    if done.shards and not any(problem.effect == HANDS_NOT_KNOWN for problem in done.problems):
        return
    (out / conversion_state.STATE).unlink(missing_ok=True)
    if not done.shards:
        raise DataError(f"None of the {done.clips:,} clips of split '{split}' can be read:\n{problems}")
    raise DataError(
        f"None of the {done.frames:,} frames of split '{split}' has known hands. Check that the archive with the hand "
        "poses is unpacked beside the images, and that the lists of clips and poses belong to this split:\n"
        f"{problems}"
    )


class _Writer:
    """Writer of the clips of one split; updates the state when a shard is on disk."""

    def __init__(self, state: State, out: Path, split: str, shard_bytes: int) -> None:
        self._state, self._out, self._done = state, out, state.splits[split]
        self._shards = ShardWriter(out, split, len(self._done.shards), shard_bytes)
        self._clips, self._problems = self._done.clips, list(self._done.problems)

    def take(self, record: ClipRecord | None, problems: Sequence[Problem], *, last: bool) -> None:
        """Add the result of reading the next clip; ``last`` is True for the last clip of the split."""
        self._clips += 1
        self._problems += problems
        complete: list[Shard | None] = [self._shards.add(record) if record else None]
        if last:
            complete.append(self._shards.close())
        new = [shard for shard in complete if shard]
        if new or last:
            self._done.shards += new
            self._done.clips, self._done.problems = self._clips, list(self._problems)
            conversion_state.save(self._out, self._state)


def _frames(keys: Mapping[str, Sequence[ClipKey]], state: State) -> parallel.Amount:
    """Return the amount of work in frames, because the time of a conversion depends on the number of frames."""
    return parallel.Amount(
        unit="frames",
        expected=lambda item: item[1].frames,
        actual=lambda result: len(result[0].frame_numbers) if result[0] else 0,
        expected_before=sum(key.frames for split in keys for key in keys[split][: state.splits[split].clips]),
        actual_before=sum(done.frames for done in state.splits.values()),
    )


def _manifest(
    source: Source, making: Making, state: State, wanted: Mapping[str, Sequence[manifest.Wanted]]
) -> Manifest:
    info = source.info(making.width, making.height)
    usual = dataclasses.replace(info, frame_rate=0.0).frame_rate
    return Manifest(
        source=info.source,
        actions=list(info.actions),
        objects=list(info.objects),
        hands=info.hands,
        width=info.width,
        height=info.height,
        frame_rate=None if info.frame_rate == usual else info.frame_rate,
        hand_types=list(info.hand_types) or None,
        quality=making.quality,
        pixels=source.pixels,
        table_digest=conversion_state.table_of(source),
        splits={split: done.shards for split, done in state.splits.items()},
        wanted={split: list(of_split) for split, of_split in wanted.items()},
    )
