"""Text summary of a conversion: a table of the splits and the problems of the source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from htt import console
from htt.data.conversion import state
from htt.data.shards.manifest import Manifest
from htt.data.sources import HANDS_NOT_KNOWN, Problem

HEADS = ("split", "clips", "frames", "MB", "clips left out", "frames left out", "hands not known")
"""Columns of the table; "hands not known" counts frames."""


def lines(out: Path, made: Manifest) -> list[str]:
    """Return the lines of a table of the splits, followed by counts of the problems and the path of their full list.

    Raises:
        DataError: the list of problems cannot be read.
    """
    problems = state.problems(out)
    text = table(made, problems)
    everything = [problem for of_split in problems.values() for problem in of_split]
    if everything:
        text += ["", "Problems, with an example of each kind:", *grouped(everything)]
        text.append(f"All {len(everything):,} are listed in {out / state.LEFT_OUT}.")
    return text


def table(made: Manifest, problems: Mapping[str, Sequence[Problem]]) -> list[str]:
    """Return the lines of the table: a header, one row per split, and the totals."""
    rows = [_counts(made, split, problems.get(split, ())) for split in made.splits]
    sums = [sum(column) for column in zip(*rows, strict=True)]
    cells = [
        HEADS,
        *((split, *_written(row)) for split, row in zip(made.splits, rows, strict=True)),
        ("all", *_written(sums)),
    ]
    return console.table(cells, console.width()).splitlines()


def grouped(problems: Iterable[Problem]) -> list[str]:
    """Return one line per effect and reason, the most frequent first, with the first problem as an example."""
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.effect, problem.reason), []).append(problem)
    ordered = sorted(groups.values(), key=len, reverse=True)
    return [f"  {_often(found)} {_example(found[0])}" for found in ordered]


def _counts(made: Manifest, split: str, problems: Sequence[Problem]) -> list[int]:
    """Return the numbers of a split in the order of the columns; the size is in bytes, not MB."""
    clips, frames = made.count(split)
    wanted = made.numbers(split).values()
    unknown = sum(problem.frames for problem in problems if problem.effect == HANDS_NOT_KNOWN)
    size = sum(shard.bytes for shard in made.shards(split))
    return [clips, frames, size, len(wanted) - clips, sum(map(len, wanted)) - frames, unknown]


def _written(row: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{value / 1e6:,.1f}" if column == 2 else f"{value:,}" for column, value in enumerate(row))


def _often(group: Sequence[Problem]) -> str:
    frames = sum(problem.frames for problem in group)
    return f"{len(group):,} x" + (f" ({frames:,} frames)" if frames > len(group) else "")


def _example(problem: Problem) -> str:
    detail = f" ({problem.detail})" if problem.detail else ""
    return f"{problem.effect}: {problem.what} {problem.reason}{detail}"
