r"""Safe output of foreign text: terminal, Markdown, CSV and LaTeX.

A label, a path or a command may contain anything: bytes that move a terminal's cursor, or characters with a meaning in
Markdown, LaTeX or a spreadsheet. ``printable`` is for all outputs, ``escaped``, ``code`` and ``block`` for Markdown,
``csv`` for spreadsheets, ``latex`` for LaTeX.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters except tab and newline, and characters that change the direction of writing."""
_SPECIAL = re.compile(r"[\\`*<>|$\[\]]|(?<!\w)_|_(?!\w)|&(?=#?\w)|~(?=~)|(?<=~)~|^[-+](?=[-\s]|$)|^[#=]")
_ORDERED = re.compile(r"^(\d{1,9})([.)])(?=\s|$)")
NOTHING = "–"
"""Placeholder for a missing number."""
_FORMULA = ("=", "+", "-", "@")
"""First characters of a cell that a spreadsheet evaluates as a formula."""


def printable(text: str) -> str:
    """Return the text without terminal control characters; bytes of a path that are not UTF-8 are escaped."""
    return _CONTROL.sub("", text).encode("utf-8", "backslashreplace").decode("utf-8")


def escaped(text: str) -> str:
    r"""Return text escaped for Markdown, on one line: ``a\*b``."""
    line = " ".join(printable(text).split())
    return _ORDERED.sub(r"\1\\\2", _SPECIAL.sub(lambda found: f"\\{found.group()}", line))


def code(text: str) -> str:
    """Return text as Markdown code, even if it contains backticks."""
    line = " ".join(printable(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}" if line else ""


def block(text: str, language: str = "") -> str:
    """Return lines as a Markdown code block, even if they contain backticks."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{printable(text)}\n{fence}"


def csv(heads: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    """Return lines of cells as CSV: NaN is an empty cell, and a text that starts like a formula gets a leading '."""
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
    """Return a number with its noun: ``1 seed``, ``6 seeds``, ``1,175 clips``."""
    return f"{number:,} {word}{'' if number == 1 else 's'}"


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "|": r"\textbar{}", '"': "''",
    "−": "$-$", "–": "--", "—": "---", "…": r"\dots{}", "\u00a0": "~", "‘": "`", "’": "'", "“": "``", "”": "''",
    "°": r"$^{\circ}$", "′": r"$^{\prime}$",
}  # fmt: skip
_LATEX |= {letter: f"$^{{{number}}}$" for number, letter in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_LATEX |= {letter: f"$_{{{number}}}$" for number, letter in enumerate("₀₁₂₃₄₅₆₇₈₉")}
_COMMANDS = (
    "times pm cdot div rightarrow leftarrow leftrightarrow Rightarrow leq geq neq approx equiv infty in sum prod surd "
    "partial nabla emptyset cup cap wedge vee neg oplus otimes ell "
    "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho varsigma sigma tau upsilon "
    "varphi chi psi omega phi Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega mu"
)
_SYMBOLS = "×±·÷→←↔⇒≤≥≠≈≡∞∈∑∏√∂∇∅∪∩∧∨¬⊕⊗ℓαβγδεζηθικλμνξπρςστυφχψωϕΓΔΘΛΞΠΣΥΦΨΩµ"
_LATEX |= {letter: f"$\\{command}$" for letter, command in zip(_SYMBOLS, _COMMANDS.split(), strict=True)}
_LATIN = frozenset(chr(code) for code in range(0xC0, 0x180)) - frozenset("×÷ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ")
"""Accented letters that pdflatex has in its default fonts and reads as UTF-8."""


def latex(text: str) -> str:
    """Return text escaped for LaTeX; a character that LaTeX lacks becomes its code point, such as U+4E2D."""
    line = " ".join(printable(text).split())
    before = f" {line}"  # LaTeX would join two hyphens into a dash
    return "".join("{}-" if pair == ("-", "-") else _in_latex(pair[1]) for pair in zip(before, line, strict=False))


def _in_latex(letter: str) -> str:
    if letter in _LATEX:
        return _LATEX[letter]
    return letter if letter.isascii() or letter in _LATIN else f"U+{ord(letter):04X}"
