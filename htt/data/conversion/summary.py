"""What a conversion made, as a table, and what was wrong with its source, as a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from htt import console
from htt.data.conversion import state
from htt.data.shards.manifest import Manifest
from htt.data.sources import HANDS_NOT_KNOWN, Problem

HEADS = ("split", "clips", "frames", "MB", "clips left out", "frames left out", "hands not known")
"""The table's columns; hands not known: in so many of the frames."""


def lines(out: Path, made: Manifest) -> list[str]:
    """A table of the splits; below it, what was wrong in how many places, and where all of it is listed.

    Raises:
        DataError: the list of what was wrong cannot be read.
    """
    problems = state.problems(out)
    told = table(made, problems)
    everything = [problem for of_split in problems.values() for problem in of_split]
    if everything:
        told += ["", "What was wrong, with an example of each kind:", *grouped(everything)]
        told.append(f"All {len(everything):,} are listed in {out / state.LEFT_OUT}.")
    return told


def table(made: Manifest, problems: Mapping[str, Sequence[Problem]]) -> list[str]:
    """A line for the heads, one for each split, and their sum."""
    rows = [_counts(made, split, problems.get(split, ())) for split in made.splits]
    sums = [sum(column) for column in zip(*rows, strict=True)]
    cells = [
        HEADS,
        *((split, *_written(row)) for split, row in zip(made.splits, rows, strict=True)),
        ("all", *_written(sums)),
    ]
    return console.table(cells, console.width()).splitlines()


def grouped(problems: Iterable[Problem]) -> list[str]:
    """A line for each effect and reason, the most frequent first, with the first such problem as an example."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.effect, problem.reason), []).append(problem)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [f"  {_often(found)} {_example(found[0])}" for found in ordered]


def _counts(made: Manifest, split: str, problems: Sequence[Problem]) -> list[int]:
    """The numbers of a split, in the order of the table's columns; bytes for MB."""
    clips, frames = made.count(split)
    wanted = made.numbers(split).values()
    unknown = sum(problem.frames for problem in problems if problem.effect == HANDS_NOT_KNOWN)
    size = sum(shard.bytes for shard in made.shards(split))
    return [clips, frames, size, len(wanted) - clips, sum(map(len, wanted)) - frames, unknown]


def _written(row: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{value / 1e6:,.1f}" if column == 2 else f"{value:,}" for column, value in enumerate(row))


def _often(found: Sequence[Problem]) -> str:
    frames = sum(problem.frames for problem in found)
    return f"{len(found):,} x" + (f" ({frames:,} frames)" if frames > len(found) else "")


def _example(problem: Problem) -> str:
    detail = f" ({problem.detail})" if problem.detail else ""
    return f"{problem.effect}: {problem.what} {problem.reason}{detail}"
