r"""Text that somebody else wrote, made safe for the place where it is shown.

A label, a path or a command may hold anything: bytes that move a terminal's cursor, signs that Markdown or a
spreadsheet take for something else. ``printable`` is for all places, ``escaped``, ``code`` and ``block`` for Markdown,
``csv`` for spreadsheets.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, those that turn the direction of writing."""
_SPECIAL = re.compile(r"[\\`*<>|$\[\]]|(?<!\w)_|_(?!\w)|&(?=#?\w)|~(?=~)|(?<=~)~|^[-+](?=[-\s]|$)|^[#=]")
_ORDERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
_FORMULA = ("=", "+", "-", "@")
"""What a cell begins with that a spreadsheet computes."""


def printable(text: str) -> str:
    """The text without what commands a terminal; bytes of a path that are no characters are shown as such."""
    return _CONTROL.sub("", text).encode("utf-8", "backslashreplace").decode("utf-8")


def escaped(text: str) -> str:
    r"""Text that means itself in Markdown: ``a\*b``, whatever the characters are."""
    line = " ".join(printable(text).split())
    return _ORDERED.sub(r"\1\\\2", _SPECIAL.sub(lambda found: f"\\{found.group()}", line))


def code(text: str) -> str:
    """Text as Markdown's code, whatever backticks are in it."""
    line = " ".join(printable(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}" if line else ""


def block(text: str, language: str = "") -> str:
    """Lines as a block of Markdown's code, whatever backticks are in them."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def csv(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Lines of cells as CSV: no number is an empty cell, and a text that begins like a formula has a ' before it."""
    import csv as comma

    text = io.StringIO()
    writer = comma.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows([_cell(cell) for cell in line] for line in lines)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def plural(number: int, word: str) -> str:
    """``1 seed``, ``6 seeds``, ``1,175 clips``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"
