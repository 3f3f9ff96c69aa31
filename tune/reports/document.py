"""Parts of a report, such as headings and tables, and their Markdown; ``html.py`` makes HTML of the same parts.

Text is inline Markdown: ``**bold**``, and the output of ``code`` and ``escaped``, which is shown literally.
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
"""Characters of a terminal line, minus the border at the end of a table."""


@dataclass(frozen=True)
class Heading:
    """The title of a section."""

    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    warns: bool = False
    """True for a warning that readers must not miss."""


@dataclass(frozen=True)
class Listing:
    """A list with one line for each item."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """A code block: commands, or the content of a file."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Table:
    """A table of column heads and rows of cells."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    folds: bool = False
    """True to split it in Markdown into aligned parts of at most 80 columns, each with the first column repeated."""

    def numeric(self) -> list[bool]:
        """Return for each column whether it holds numbers, which are aligned to the right."""
        columns = zip(*self.rows, strict=True) if self.rows else ([] for _ in self.heads)
        return list(map(console.numeric, map(list, columns)))


@dataclass(frozen=True)
class Picture:
    """A figure with its caption and its alternative text."""

    name: str
    """File name without extension."""
    figure: Figure
    caption: str
    alternative: str


Part: TypeAlias = Heading | Text | Listing | Code | Table | Picture


def markdown(title: str, parts: Sequence[Part]) -> str:
    """Return the report as Markdown; its pictures are PNG files in the same folder."""
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
    """Yield the columns of a table in groups that fit on a terminal, each led by the first column."""
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
