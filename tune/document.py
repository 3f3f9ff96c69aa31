"""A report is a list of parts, written once and read as Markdown (here) or as one page of HTML (``tune/page.py``).

Text is Markdown's inline part: `` `code` ``, ``**bold**``, and a backslash before what means itself (``escaped``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from htt import console

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SPECIAL = re.compile(r"[\\`*<>|\[\]]|(?<!\w)_|_(?!\w)")


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


def escaped(text: str) -> str:
    r"""Text that means itself: ``a\*b``, whatever the characters are."""
    return _SPECIAL.sub(lambda found: f"\\{found.group()}", " ".join(text.split()))


def _markdown(part: Part) -> str:
    if isinstance(part, Heading):
        return f"## {part.text}"
    if isinstance(part, Text):
        return f"> {part.text}" if part.warns else part.text
    if isinstance(part, Listing):
        return "\n".join(f"- {item}" for item in part.items)
    if isinstance(part, Code):
        return f"```{part.language}\n{part.text}\n```"
    if isinstance(part, Table):
        rules = ["---:" if numeric else "---" for numeric in part.numeric()]
        return "\n".join(f"| {' | '.join(line)} |" for line in (part.heads, rules, *part.rows))
    return f"![{escaped(part.alternative)}]({part.name}.png)\n\n*{part.caption}*"
