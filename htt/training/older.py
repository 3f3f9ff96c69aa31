"""Older checkpoints of a training, used if the newest one is damaged."""

from __future__ import annotations

from pyarrow import fs

KEPT = 2
"""Newest checkpoints that every training keeps: one may be damaged."""
NOTE = "note"
"""Key of a report's note for the user."""
PREFIX = "checkpoint_"


def listed(folder: str, system: fs.FileSystem) -> list[str]:
    """Return the names of the checkpoints in the folder of a training, the oldest first."""
    entries = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
    names = [each.base_name for each in entries if each.type == fs.FileType.Directory]
    return sorted((name for name in names if name.startswith(PREFIX)), key=_order)


def older(path: str, system: fs.FileSystem) -> list[str]:
    """Return the checkpoints in the same folder that were saved before this one, the newest first."""
    folder, _, own = path.rstrip("/").rpartition("/")
    before = [name for name in listed(folder, system) if _order(name) < _order(own)]
    return [f"{folder}/{name}" for name in reversed(before)]


def _order(name: str) -> tuple[int, str]:
    """Return a sort key for checkpoint names whose numbers may differ in their count of digits."""
    return len(name), name
