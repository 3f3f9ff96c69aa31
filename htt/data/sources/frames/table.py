"""The table ``clips.csv`` of a folder of own data: the split and the labels of each clip."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from htt.data.sources import _text
from htt.errors import DataError, did_you_mean, shown
from htt.text import plural

NAME = "clips.csv"
REQUIRED = ("id", "split", "action", "object")
CAMERA = ("fx", "fy", "cx", "cy")
COLUMNS = (*REQUIRED, "subject", "group", *CAMERA)
SPLITS = ("train", "val", "test")
NO_OBJECT = ("unknown",)
"""Objects of data in which no clip names one."""
SHOWN = 10
"""Number of faults that an error message lists."""


@dataclass(frozen=True)
class Row:
    """Row of a clip; a text is empty if the table does not have it."""

    id: str
    split: str
    action: str
    object: str
    subject: str
    group: str
    camera: tuple[float, ...]
    """f_x, f_y, c_x, c_y, px, of the clip's own images, or empty."""


@dataclass(frozen=True)
class Table:
    """Clips, and their classes in alphabetical order."""

    rows: tuple[Row, ...]
    actions: tuple[str, ...]
    objects: tuple[str, ...]

    def labels(self, row: Row) -> tuple[int, int]:
        """Return the indices of a clip's action and object; -1 for one that the table does not name."""
        names = (self.actions, row.action), (self.objects, row.object)
        action, thing = (known.index(name) if name else -1 for known, name in names)
        return action, thing


def read(root: Path) -> Table:
    """Read the table of a folder.

    Raises:
        DataError: the table is missing, or has wrong columns, rows or classes; one error lists all faults.
    """
    path = root / NAME
    cells = [(number, row) for number, row in _rows(path) if any(cell.strip() for cell in row)]
    if not cells:
        raise _invalid(path, [f"it is empty, expected the columns {', '.join(REQUIRED)}"])
    header = [cell.strip() for cell in cells[0][1]]
    if faults := list(_faults_of_header(header)):
        raise _invalid(path, faults)
    of_ids: dict[str, Row] = {}
    for number, row in cells[1:]:
        try:
            made = _row(header, [cell.strip() for cell in row])
            if made.id in of_ids:
                raise ValueError(f"the id {shown(made.id)} occurs again")
            of_ids[made.id] = made
        except ValueError as error:
            faults.append(f"row {number}: {error}")
    rows = list(of_ids.values())
    faults = faults or list(_faults_of_classes(rows))
    if faults:
        raise _invalid(path, faults)
    actions, objects = (sorted({getattr(row, name) for row in rows} - {""}) for name in ("action", "object"))
    return Table(tuple(rows), tuple(actions), tuple(objects) or NO_OBJECT)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(_text.lines(path))
    while True:
        try:
            yield reader.line_num + 1, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _invalid(path, [f"row {reader.line_num}: {error}"]) from error


def _faults_of_header(header: Sequence[str]) -> Iterator[str]:
    for name in header:
        if name not in COLUMNS:
            near = did_you_mean(name, list(COLUMNS)).strip()
            yield f"no such column {shown(name)}, there are {', '.join(COLUMNS)}" + (f" ({near})" if near else "")
    if missing := [name for name in REQUIRED if name not in header]:
        yield f"{plural(len(missing), 'column')} missing: {', '.join(missing)}"
    if twice := sorted({name for name in header if header.count(name) > 1}):
        yield f"columns given twice: {', '.join(twice)}"


def _row(header: Sequence[str], cells: Sequence[str]) -> Row:
    """Return a row.

    Raises:
        ValueError: a cell is wrong.
    """
    if len(cells) != len(header):
        raise ValueError(f"{plural(len(cells), 'cell')}, the header has {len(header)}")
    of = dict(zip(header, cells, strict=True))
    clip, split = of["id"], of["split"]
    parts = PurePosixPath(clip).parts
    if not parts or parts[0] == "/" or ".." in parts or not clip.isprintable():
        raise ValueError(f"the id must be the name of a folder or file below that of {NAME}; got {shown(clip)}")
    if split not in SPLITS:
        raise ValueError(f"split must be {', '.join(SPLITS)}; got {shown(split)}")
    return Row(clip, split, of["action"], of["object"], of.get("subject", ""), of.get("group", ""), _camera(of))


def _camera(of: Mapping[str, str]) -> tuple[float, ...]:
    """Return f_x, f_y, c_x, c_y, or nothing if all are empty.

    Raises:
        ValueError: some are empty, or one is not a number above 0.
    """
    words = [of.get(name, "") for name in CAMERA]
    if not any(words):
        return ()
    try:
        values = _text.floats(words)
    except ValueError:
        values = None
    if values is None or (values <= 0).any():
        raise ValueError(f"{', '.join(CAMERA)} must be four numbers above 0, px, or all empty; got {shown(words)}")
    return tuple(values.tolist())


def _faults_of_classes(rows: Sequence[Row]) -> Iterator[str]:
    trained = [row for row in rows if row.split == "train"]
    if not any(row.action for row in trained):
        yield "no row of split train has an action"
        return
    for kind in ("action", "object"):
        seen = {getattr(row, kind) for row in trained} | {""}
        others: dict[str, list[Row]] = {}
        for row in rows:
            if getattr(row, kind) not in seen:
                others.setdefault(getattr(row, kind), []).append(row)
        for name, unseen in others.items():
            splits = " and ".join(dict.fromkeys(row.split for row in unseen))
            yield (
                f"the {kind} {shown(name)} is in {splits} alone ({plural(len(unseen), 'clip')}, such as "
                f"{unseen[0].id}): no training clip shows it"
            )


def _invalid(path: Path, faults: Sequence[str]) -> DataError:
    more = [f"and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
    return DataError(f"Invalid {_text.printable(path)}: {'; '.join([*faults[:SHOWN], *more])}. Correct the table.")
