"""Cache of downloaded shards, named by their checksums and shared by all processes of a machine.

::

    <cache>/shards/<sha256>.arrow       complete shard: a download is renamed when its checksum is verified
                   <sha256>.checked     state of the file when it was verified; touched at every use
                   .<sha256>.lock       held by the process that downloads the shard; the others wait for it

A process that maps a shard holds a shared lock on it while the map exists. To make room, the least recently used
shards without a lock are removed. Removing a mapped shard would free no space and cause a second download of it. So
shards in use may exceed the size limit.
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

from filelock import FileLock

from htt import console, files
from htt.data.shards.manifest import Shard
from htt.data.store.remote import Remote
from htt.errors import DataError

FOLDER = "shards"
_SHARDS, _PARTS = "*.arrow", ".*.arrow.*.part"


class Cache:
    """Cache of the downloaded shards of a machine."""

    def __init__(self, folder: Path, limit_bytes: int | None = None) -> None:
        """Set the folder and the size limit.

        Args:
            folder: folder of the shards.
            limit_bytes: largest total size of the shards, or None for the whole disk.
        """
        self.folder, self.limit_bytes = folder, limit_bytes

    def has(self, shard: Shard) -> bool:
        """Return True if a shard is in the cache; counts as a use."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._checked(self._path(shard)))
        return self._path(shard).exists()

    def fetch(self, shard: Shard, remote: Remote) -> None:
        """Download a shard, unless it is in the cache; see ``mapped``."""
        if not self.has(shard):
            os.close(self._fetched(shard, remote))

    def mapped(self, shard: Shard, remote: Remote) -> mmap.mmap:
        """Return the memory map of a shard, downloading it first if needed; the shard is kept while the map exists.

        Raises:
            DataError: the shard is not in the store, or was downloaded twice with a wrong checksum.
            StorageError: the store cannot be read, or the disk of the cache is full or not writable.
        """
        held = self._open(shard)
        if held is None:
            held = self._fetched(shard, remote)
        try:
            return mmap.mmap(held, 0, access=mmap.ACCESS_READ)  # duplicates the descriptor, and so keeps the lock
        finally:
            os.close(held)

    def _open(self, shard: Shard) -> int | None:
        """Return the descriptor of a shard with a shared lock, or None if the shard is missing or damaged."""
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
        """Return True if a changed file still has the right checksum; remove it otherwise."""
        path = self._path(shard)
        if files.sha256(Path(f"/dev/fd/{held}")) == shard.sha256:
            _write_checked(held, self._checked(path))
            return True
        console.err.print(f"{shard.file} changed in the cache ({path}); downloading it again.", markup=False)
        now = _stat(path)
        if now and now.st_ino == os.fstat(held).st_ino:  # no other process has replaced it meanwhile
            path.unlink(missing_ok=True)
        return False

    def _fetched(self, shard: Shard, remote: Remote) -> int:
        """Download a shard, or wait for the process that does; return its descriptor, with a shared lock."""
        since = time.monotonic()
        with files.locked(self.folder / f".{shard.sha256}.lock"):
            held, uri = self._open(shard), remote.shown(shard.file)
            if held is not None:
                return held
            for part in self.folder.glob(f".{shard.sha256}.arrow.*.part"):  # left by a killed process
                part.unlink()
            with contextlib.suppress(_ChecksumError):
                return self._download(shard, remote, since)
            console.err.print(f"Wrong checksum of {uri}; downloading it again.", markup=False)
            with contextlib.suppress(_ChecksumError):
                return self._download(shard, remote, time.monotonic())
        raise wrong_checksum(uri, shard.sha256)

    def _download(self, shard: Shard, remote: Remote, since: float) -> int:
        """Download a shard; return its descriptor, with a shared lock."""
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
                    raise _ChecksumError
                held = os.open(temporary, os.O_RDONLY)
                failing.callback(os.close, held)
                fcntl.flock(held, fcntl.LOCK_SH)  # before the rename, so that no process can remove it
            _write_checked(held, self._checked(path))
            failing.pop_all()
        return held

    def _reserve(self, file: BinaryIO, needed: int) -> None:
        """Make room for a shard and allocate it, so that a full disk is detected before the download."""
        with files.locked(self.folder / ".lock"):
            self._make_room(needed)
            try:
                os.posix_fallocate(file.fileno(), 0, max(needed, 1))
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot allocate
                    raise

    def _make_room(self, needed: int) -> None:
        self._remove_parts()
        shards = {path: _stat(path) for path in self.folder.glob(_SHARDS)}
        parts = map(_stat, self.folder.glob(_PARTS))
        used_bytes = sum(stat.st_size for stat in (*shards.values(), *parts) if stat)
        last_use = {path: (_stat(self._checked(path)) or stat).st_mtime_ns for path, stat in shards.items() if stat}
        for path in sorted(last_use, key=lambda path: last_use[path]):
            over = self.limit_bytes is not None and used_bytes + needed > self.limit_bytes
            if not over and shutil.disk_usage(self.folder).free >= needed:
                return
            used_bytes -= self._remove(path)

    def _remove_parts(self) -> None:
        """Remove partial downloads of killed processes, which hold no lock any more."""
        for part in self.folder.glob(_PARTS):
            lock = FileLock(self.folder / f".{part.name.split('.')[1]}.lock", fallback_to_soft=False)
            with contextlib.suppress(OSError), lock.acquire(blocking=False):  # fails while a process downloads
                part.unlink(missing_ok=True)

    def _remove(self, path: Path) -> int:
        """Remove a shard, unless a process holds its lock; return the number of freed bytes."""
        try:
            with path.open("rb+") as file:  # over NFS, an exclusive lock needs a writable file
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


class _ChecksumError(Exception):
    """Raised when a download has a wrong checksum."""


def wrong_checksum(uri: str, sha256: str) -> DataError:
    """Return the error for a file that was downloaded twice with a wrong checksum."""
    return DataError(
        f"Wrong checksum of {uri} after two downloads; its manifest says sha256 {sha256}. Copy the file there again."
    )


def _is_checked(held: int, checked: Path) -> bool:
    """Return True if a file is unchanged since its checksum was verified; counts as a use."""
    try:
        same: bool = json.loads(checked.read_bytes()) == files.state(os.fstat(held))
        os.utime(checked)
    except (FileNotFoundError, ValueError):
        return False
    return same


def _write_checked(held: int, checked: Path) -> None:
    files.write_text(checked, json.dumps(files.state(os.fstat(held))))


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
