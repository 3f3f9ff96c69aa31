"""The shards a machine has downloaded, each kept under its checksum and shared by all processes.

::

    <cache>/shards/<sha256>.arrow       a whole shard, or not there: a download is renamed when its checksum is right
                   <sha256>.checked     what the file was when its checksum was; touched by every use
                   .<sha256>.lock       held while one process downloads, so that the others wait for it

A process that maps a shard holds a shared lock on it, for just as long as the map lives. Room is made by removing the
shards that were not used for longest and that nobody holds: one that is mapped would stay readable, but its space
would not come free, and it would be downloaded again beside itself. So what is in use may exceed the limit.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import time
from pathlib import Path
from typing import BinaryIO

from htt import console, files
from htt.data.shards.manifest import Shard
from htt.data.store.remote import Remote
from htt.errors import DataError, storage_errors

FOLDER = "shards"
_SHARDS, _PARTS = "*.arrow", ".*.arrow.*.part"


class Cache:
    """The downloaded shards of a machine."""

    def __init__(self, folder: Path, limit_bytes: int | None = None) -> None:
        """Name the place.

        Args:
            folder: where the shards are.
            limit_bytes: most they should take; None: all the disk has.
        """
        self.folder, self.limit_bytes = folder, limit_bytes

    def has(self, shard: Shard) -> bool:
        """Whether a shard is there; counts as a use."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._checked(self._path(shard)))
        return self._path(shard).exists()

    def fetch(self, shard: Shard, remote: Remote) -> None:
        """Download a shard, unless it is there; see ``mapped``."""
        if not self.has(shard):
            os.close(self._fetched(shard, remote))

    def mapped(self, shard: Shard, remote: Remote) -> mmap.mmap:
        """A shard in memory, downloaded first if it must be; while the map lives, the shard is not removed.

        Raises:
            DataError: it is not in the store, or came twice with another checksum.
            StorageError: the store cannot be read, or the cache's disk is full or may not be written to.
        """
        held = self._open(shard)
        if held is None:
            held = self._fetched(shard, remote)
        try:
            return mmap.mmap(held, 0, access=mmap.ACCESS_READ)  # keeps a duplicate of the file, and so its lock
        finally:
            os.close(held)

    def _open(self, shard: Shard) -> int | None:
        """The file of a shard, with a shared lock; None if it is not there, or not what it should be."""
        path = self._path(shard)
        try:
            held = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(held, fcntl.LOCK_SH)
        if os.fstat(held).st_nlink and (_is_checked(held, self._checked(path)) or self._check(held, shard)):
            return held
        os.close(held)
        return None

    def _check(self, held: int, shard: Shard) -> bool:
        """Whether a file that changed is still the shard; if it is not, it is removed."""
        path = self._path(shard)
        if files.sha256(Path(f"/dev/fd/{held}")) == shard.sha256:
            _write_checked(held, self._checked(path))
            return True
        console.err.print(f"{shard.file} changed in the cache ({path}); it is downloaded again.", markup=False)
        now = _stat(path)
        if now and now.st_ino == os.fstat(held).st_ino:  # nobody has put a good one there meanwhile
            path.unlink(missing_ok=True)
        return False

    def _fetched(self, shard: Shard, remote: Remote) -> int:
        """Download a shard alone, or wait for who does; its file, with a shared lock."""
        since = time.monotonic()
        with files.locked(self.folder / f".{shard.sha256}.lock"):
            held, place = self._open(shard), remote.place(shard.file)
            if held is not None:
                return held
            for part in self.folder.glob(f".{shard.sha256}.arrow.*.part"):  # of a process that was killed
                part.unlink()
            with contextlib.suppress(_SpoiltError):
                return self._download(shard, remote, since)
            console.err.print(f"{place} came with a wrong checksum; it is fetched again.", markup=False)
            with contextlib.suppress(_SpoiltError):
                return self._download(shard, remote, time.monotonic())
        raise DataError(
            f"Shards must be what their manifest promises; {place} was fetched twice and has not the sha256 "
            f"{shard.sha256} of its manifest. Copy it there again."
        )

    def _download(self, shard: Shard, remote: Remote, since: float) -> int:
        """Download a shard: its file, with a shared lock."""
        path, digest = self._path(shard), hashlib.sha256()
        with contextlib.ExitStack() as failing:
            with files.replacing(path) as temporary:
                with temporary.open("xb") as file:
                    self._reserve(file, shard.bytes)
                    for block in remote.blocks(shard.file, since):
                        digest.update(block)
                        file.write(block)
                    file.truncate()
                if digest.hexdigest() != shard.sha256:
                    raise _SpoiltError
                held = os.open(temporary, os.O_RDONLY)
                failing.callback(os.close, held)
                fcntl.flock(held, fcntl.LOCK_SH)  # before it has its name, so that nobody can remove it
            _write_checked(held, self._checked(path))
            failing.pop_all()
        return held

    def _reserve(self, file: BinaryIO, needed: int) -> None:
        """Make room for a shard and take it, so that a full disk is known before the download."""
        with files.locked(self.folder / ".lock"):
            self._make_room(needed)
            try:
                os.posix_fallocate(file.fileno(), 0, max(needed, 1))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # of a disk that cannot reserve
                    raise

    def _make_room(self, needed: int) -> None:
        self._remove_parts()
        there = {path: _stat(path) for path in self.folder.glob(_SHARDS)}
        taken = sum(found.st_size for found in there.values() if found)
        taken += sum(found.st_size for found in map(_stat, self.folder.glob(_PARTS)) if found)
        used = {path: (_stat(self._checked(path)) or found).st_mtime_ns for path, found in there.items() if found}
        for path in sorted(used, key=lambda path: used[path]):
            over = self.limit_bytes is not None and taken + needed > self.limit_bytes
            if not over and shutil.disk_usage(self.folder).free >= needed:
                return
            taken -= self._remove(path)

    def _remove_parts(self) -> None:
        """Remove what killed processes left of other downloads: nobody holds the locks of those."""
        for part in self.folder.glob(_PARTS):
            with (self.folder / f".{part.name.split('.')[1]}.lock").open("w") as lock, contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink(missing_ok=True)

    def _remove(self, path: Path) -> int:
        """Remove a shard, unless somebody holds it: the bytes that came free."""
        try:
            with path.open("rb+") as file:  # over NFS a lock of one's own needs a file that may be written
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                size = os.fstat(file.fileno()).st_size
                path.unlink()
                self._checked(path).unlink(missing_ok=True)
                return size
        except (BlockingIOError, FileNotFoundError):
            return 0

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.sha256}.arrow"

    def _checked(self, path: Path) -> Path:
        return path.with_suffix(".checked")


class _SpoiltError(Exception):
    """A download has another checksum."""


def _is_checked(held: int, checked: Path) -> bool:
    """Whether a file is what it was when its checksum was looked at; counts as a use."""
    try:
        same: bool = json.loads(checked.read_bytes()) == files.state(os.fstat(held))
        os.utime(checked)
    except (FileNotFoundError, ValueError):
        return False
    return same


def _write_checked(held: int, checked: Path) -> None:
    with storage_errors(checked.parent), files.replacing(checked) as path:
        path.write_text(json.dumps(files.state(os.fstat(held))), encoding="utf-8")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
