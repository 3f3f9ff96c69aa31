"""The folder of a Ray that is started here: nobody else may enter it, and it is gone when the Ray is.

Ray lets every user of the machine write where it keeps its sockets and logs. So each Ray of ours gets a folder of its
own, inside one of mode 0700. What its processes put into the temporary folder goes there too, so that nothing of a
worker that is killed stays. A folder whose process was killed is removed by the next one.
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

from htt.errors import ClusterError

try:
    import fcntl
except ImportError:  # another system: what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

PREFIX, LOCK = "htt-ray-", "lock"
SOCKET_BYTES = 107 if sys.platform.startswith("linux") else 103
"""Of a socket's path, at most."""
BELOW = "/htt-ray-12345678/r/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store"
"""The longest path of a socket, below the temporary folder."""
FULL = "The temporary folder is full: free some space, or name another with TMPDIR."
LEAVE_S = 5.0
"""How long Ray's processes may still write after they were told to end, s."""


@contextlib.contextmanager
def own() -> Iterator[str]:
    """A folder for a Ray, for the length of a ``with`` block; meanwhile it is the temporary folder of what is started.

    Raises:
        ClusterError: the temporary folder's path is too long for sockets, or takes no folder.
    """
    place = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()).absolute()
    length = len(os.fsencode(place)) + len(BELOW)
    if length > SOCKET_BYTES:
        raise ClusterError(
            f"Ray's sockets must have paths of at most {SOCKET_BYTES} bytes; below the temporary folder {place} they "
            f"would have {length}. Name a shorter one: TMPDIR=/tmp before the command, or RAY_TMPDIR for Ray alone."
        )
    remove_left(place)
    try:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))  # of mode 0700
        held = _hold(folder)
    except OSError as error:
        raise ClusterError(f"The temporary folder {place} must take a folder; {error.strerror}. {FULL}") from error
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield str(folder / "r")
    finally:
        os.environ.pop("TMPDIR", None)
        if before is not None:
            os.environ["TMPDIR"] = before
        _remove(folder)
        os.close(held)


def remove_left(place: Path) -> None:
    """Remove the folders in a temporary folder whose processes were killed."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if fcntl and folder.stat().st_uid == os.geteuid():
                held = os.open(folder / LOCK, os.O_RDWR)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)  # refused, while its process lives
                    shutil.rmtree(folder, ignore_errors=True)
                finally:
                    os.close(held)


def _hold(folder: Path) -> int:
    """Lock a folder, before others can see that it may be."""
    beside = folder / f".{LOCK}"
    held = os.open(beside, os.O_RDWR | os.O_CREAT, 0o600)
    if fcntl:
        fcntl.flock(held, fcntl.LOCK_EX)
    beside.replace(folder / LOCK)
    return held


def _remove(folder: Path) -> None:
    ends = time.monotonic() + LEAVE_S
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > ends:
            return
        if folder.exists():
            time.sleep(0.1)
