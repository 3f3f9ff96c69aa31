"""Private folder of a Ray started here, which is removed when the Ray ends.

Ray makes the folder of its sockets and logs writable by every user of the machine. So each Ray of ours gets its own
folder, inside one of mode 0700. Its processes' temporary files also go there, so that a killed worker leaves no files
elsewhere. The folder of a killed process is removed by the next one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from htt.errors import ClusterError

PREFIX, LOCK = "htt-ray-", "lock"
SOCKET_BYTES = 107 if sys.platform.startswith("linux") else 103
"""Largest length of a socket's path, bytes."""
BELOW = "/htt-ray-12345678/r/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store"
"""Longest path of a socket, below the temporary folder."""
FULL = "The temporary folder is full: free some space, or set another one with TMPDIR."
LEAVE_S = 5.0
"""Time for Ray's processes to finish writing after the request to end, s."""


@contextlib.contextmanager
def own() -> Iterator[str]:
    """Yield a folder for a Ray within a ``with`` block; it is also the temporary folder of new processes.

    Raises:
        ClusterError: the path of the temporary folder is too long for sockets, or no folder can be created in it.
    """
    parent = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute()
    length = len(os.fsencode(parent)) + len(BELOW)
    if length > SOCKET_BYTES:
        raise ClusterError(
            f"The path of the temporary folder {parent} is too long: Ray's sockets would have paths of {length} bytes, "
            f"at most {SOCKET_BYTES} are allowed. Set a shorter one: TMPDIR=/tmp before the command, or RAY_TMPDIR for "
            "Ray alone."
        )
    remove_left(parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # of mode 0700
        held = _hold(folder)
    except OSError as error:
        raise ClusterError(f"Cannot create a folder in {parent}: {error.strerror}. {FULL}") from error
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield str(folder / "r")
    finally:
        os.environ.pop("TMPDIR", None)
        if before is not None:
            os.environ["TMPDIR"] = before
        _remove(folder)
        held.release()


def remove_left(parent: Path) -> None:
    """Remove the folders of killed processes in a temporary folder."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.geteuid() and (folder / LOCK).exists():
                with FileLock(folder / LOCK).acquire(blocking=False):  # fails while its process lives
                    shutil.rmtree(folder, ignore_errors=True)


def _hold(folder: Path) -> FileLock:
    """Lock a folder before the lock file gets its final name, so that others never see it unlocked."""
    held = FileLock(folder / f".{LOCK}")
    held.acquire()
    Path(held.lock_file).replace(folder / LOCK)
    return held


def _remove(folder: Path) -> None:
    ends = time.monotonic() + LEAVE_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > ends:
            return
        if folder.exists():
            time.sleep(0.1)
