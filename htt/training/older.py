"""The checkpoints of a training that were saved before one: what it goes on from where that one is damaged."""

from __future__ import annotations

from pyarrow import fs

KEPT = 2
"""Newest checkpoints that every training keeps: one may be damaged."""
NOTE = "note"
"""A report's word for what the reader of the run should know."""
PREFIX = "checkpoint_"


def listed(folder: str, system: fs.FileSystem) -> list[str]:
    """Return the names of the checkpoints in the folder of a training, the oldest first."""
    found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    names = [each.base_name for each in found if each.type == fs.FileType.Directory]
    return sorted((name for name in names if name.startswith(PREFIX)), key=_order)


def older(place: str, system: fs.FileSystem) -> list[str]:
    """Return the checkpoints beside one that were saved before it, the newest first."""
    folder, _, own = place.rstrip("/").rpartition("/")
    before = [name for name in listed(folder, system) if _order(name) < _order(own)]
    return [f"{folder}/{name}" for name in reversed(before)]


def _order(name: str) -> tuple[int, str]:
    """Numbers may have more digits than the first ones had."""
    return len(name), name
