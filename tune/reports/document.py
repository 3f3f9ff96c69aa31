"""A report is a list of parts, written once and read as Markdown (here) or as one page of HTML (``html.py``).

Text is Markdown's inline part: ``**bold**``, and what ``code`` and ``escaped`` give, so that it means itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from htt import console
from htt.text import block, code, escaped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Code", "Heading", "Listing", "Part", "Picture", "Table", "Text", "code", "escaped", "markdown"]

WIDTH = 79
"""Columns of a terminal, less the line at the end of a table."""


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    warns: bool = False
    """Whether a reader must not miss it."""


@dataclass(frozen=True)
class Listing:
    """One line each."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """What is typed, or stands in a file."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Table:
    """Heads and rows of cells."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    folds: bool = False
    """Whether Markdown sets it in aligned parts of at most 80 columns, each with the first column again."""

    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers: these stand to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.heads)
        return list(map(console.numeric, map(list, columns)))


@dataclass(frozen=True)
class Picture:
    """A figure with the words beneath it, and those for a reader who cannot see it."""

    name: str
    """Of its file, without the ending."""
    figure: Figure
    caption: str
    alternative: str


Part: TypeAlias = Heading | Text | Listing | Code | Table | Picture


def markdown(title: str, parts: Sequence[Part]) -> str:
    """The report as Markdown; its pictures are PNG files beside it."""
    return "\n\n".join([f"# {title}", *(_markdown(part) for part in parts)]) + "\n"


def _markdown(part: Part) -> str:
    if isinstance(part, Heading):
        return f"## {part.text}"
    if isinstance(part, Text):
        return f"> {part.text}" if part.warns else part.text
    if isinstance(part, Listing):
        return "\n".join(f"- {item}" for item in part.items)
    if isinstance(part, Code):
        return block(part.text, part.language)
    if isinstance(part, Table):
        if part.folds:
            return "\n\n".join(map(_aligned, _parts(part)))
        rules = ["---:" if numeric else "---" for numeric in part.numeric()]
        return "\n".join(f"| {' | '.join(line)} |" for line in (part.heads, rules, *part.rows))
    return f"![{escaped(part.alternative)}]({part.name}.png)\n\n*{part.caption}*"


def _parts(table: Table) -> Iterator[Sequence[Sequence[str]]]:
    """Yield the columns of a table in parts that fit on a terminal, each with the first column before it."""
    first, *columns = zip(table.heads, *table.rows, strict=True)
    part: list[Sequence[str]] = [first]
    used = _width(first)
    for column in columns:
        if len(part) > 1 and used + _width(column) > WIDTH:
            yield part
            part = [first]
            used = _width(first)
        part.append(column)
        used += _width(column)
    yield part


def _aligned(columns: Sequence[Sequence[str]]) -> str:
    cells = []
    for head, *rest in columns:
        right, size = console.numeric(rest), _width([head, *rest]) - 3
        rule = "-" * (size - 1) + ":" if right else "-" * size
        cells.append([cell.rjust(size) if right else cell.ljust(size) for cell in (head, rule, *rest)])
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*cells, strict=True))


def _width(column: Sequence[str]) -> int:
    return max(3, *map(len, column)) + 3
