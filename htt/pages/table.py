"""Tables of typed columns: Markdown, LaTeX and terminal text to read, CSV for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from htt import console, text
from htt.text import NOTHING, escaped

WIDTH = 79
"""Characters of a terminal line, minus the border at the end of a table."""
RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Column(Generic[RowT]):
    """A column: the values of its cells for programs, and their texts for people."""

    name: str
    """Head in CSV, or "" for a column for people alone."""
    value: Callable[[RowT], Any]
    """Value of a row, not rounded; "" if it has none."""
    title: str = ""
    """Head for people, or "" for a column of CSV alone."""
    show: Callable[[Any], str] = str
    """Text of a value: rounded, with its unit."""
    number: bool = True
    """True for numbers, which are aligned to the right."""

    def text(self, row: RowT) -> str:
        """Return the text of a cell; a dash if the row has no value."""
        value = self.value(row)
        return NOTHING if value == "" else self.show(value)


@dataclass(frozen=True)
class Table(Generic[RowT]):
    """Rows of any type, and the columns that are shown of each."""

    columns: Sequence[Column[RowT]]
    rows: Sequence[RowT]
    folds: bool = False
    """True to split it in Markdown into aligned parts of at most 80 columns, each with the first column repeated."""

    @property
    def shown(self) -> list[Column[RowT]]:
        """Columns for people."""
        return [column for column in self.columns if column.title]

    @property
    def cells(self) -> list[list[str]]:
        """Text of the shown columns of each row."""
        return [[column.text(row) for column in self.shown] for row in self.rows]

    def filled(self) -> Table[RowT]:
        """Return the table without columns of which every cell is a dash."""
        columns = [column for column in self.columns if any(column.text(row) != NOTHING for row in self.rows)]
        return replace(self, columns=columns)

    def select(self, *titles: str) -> Table[RowT]:
        """Return the table with the columns of these titles, in this order."""
        return replace(self, columns=[column for title in titles for column in self.columns if column.title == title])

    def markdown(self) -> str:
        """Return the table as Markdown."""
        columns = [
            [
                escaped(column.title),
                "---:" if column.number else "---",
                *(escaped(column.text(row)) for row in self.rows),
            ]
            for column in self.shown
        ]
        parts = _parts(list(map(_aligned, columns))) if self.folds else [columns]
        return "\n\n".join("\n".join(f"| {' | '.join(line)} |" for line in zip(*part, strict=True)) for part in parts)

    def lines(self) -> list[list[str]]:
        """Return the heads and then the cells of each row."""
        return [[column.title for column in self.shown], *self.cells]

    def terminal(self, width: int | None) -> str:
        """Return the table as aligned lines, wrapped between words to ``width`` columns, or not at all for None."""
        return console.table(self.lines(), width, [column.number for column in self.shown])

    def latex(self, caption: str, label: str) -> str:
        """Return the table as LaTeX, for the packages booktabs and graphicx."""
        heads, *rows = ([text.latex(cell) for cell in line] for line in self.lines())
        lines = [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{text.latex(caption)}}}",
            r"  \smallskip",
            rf"  \label{{tab:{label}}}",
            r"  \resizebox{\linewidth}{!}{%",
            rf"  \begin{{tabular}}{{{''.join('r' if column.number else 'l' for column in self.shown)}}}",
            r"    \toprule",
            f"    {' & '.join(heads)} \\\\",
            r"    \midrule",
            *(f"    {' & '.join(row)} \\\\" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def csv(tables: Sequence[Table[Any]]) -> str:
    """Return tables with the same columns as one CSV; NaN is an empty cell."""
    heads = [column.name for column in tables[0].columns if column.name]
    rows = ([each.value(row) for each in table.columns if each.name] for table in tables for row in table.rows)
    return text.csv(heads, rows)


def _aligned(column: Sequence[str]) -> list[str]:
    """Return the head, the rule and the cells of a Markdown column with equal widths."""
    head, rule, *cells = column
    size = max(3, *map(len, [head, *cells]))
    align = str.rjust if rule.endswith(":") else str.ljust
    return [align(head, size), rule[-1].rjust(size, "-"), *(align(cell, size) for cell in cells)]


def _parts(columns: Sequence[list[str]]) -> Iterator[list[list[str]]]:
    """Yield aligned columns in groups that fit on a terminal, each led by the first column."""
    part = [columns[0]]
    for column in columns[1:]:
        if len(part) > 1 and sum(len(head) + 3 for head, *_ in (*part, column)) > WIDTH:
            yield part
            part = [columns[0]]
        part.append(column)
    yield part
