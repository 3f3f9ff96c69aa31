"""Atomic file writes, and locks for folders that one process writes at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from htt import console
from htt.errors import ConfigError, storage_errors

_PART = ".part"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; a file written there replaces ``path`` when the block ends without error.

    Raises:
        StorageError: the disk is full or not writable; ``path`` is then unchanged.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}{_PART}")
    with storage_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _to_disk(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; raises as ``replacing``."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; raises as ``replacing``."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def make_folder(folder: Path, option: str = "--out") -> None:
    """Create the output folder of a command, so that an impossible one is reported before hours of work.

    Raises:
        ConfigError: it, or a folder above it, is a file.
        StorageError: the disk is full or not writable.
    """
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigError(
                f"{option} must be a folder; {error.filename} is a file. Choose another folder."
            ) from error


@contextlib.contextmanager
def writing(folder: Path, option: str = "--out") -> Iterator[None]:
    """Hold the output folder of a command for a ``with`` block, after waiting for another process that writes it.

    The folder is created, and partial files of killed processes are removed from it; a new folder is removed again if
    the block ends with an error and wrote nothing. The lock is on the folder itself, so no file is added; on a file
    system without such locks there is no protection.

    Raises:
        ConfigError: it, or a folder above it, is a file.
        StorageError: the disk is full or not writable.
    """
    held, is_new = -1, not folder.exists()
    while held < 0 or os.fstat(held).st_ino != _inode(folder):  # it may have been replaced while this process waited
        if held >= 0:
            os.close(held)
        make_folder(folder, option)
        with storage_errors(folder):
            held = os.open(folder, os.O_RDONLY)
            _wait(held, f"Another process writes {folder}; waiting for it.")
    try:
        remove_parts(folder)
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # it has files
                folder.rmdir()
        raise
    finally:
        os.close(held)


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except FileNotFoundError:
        return None


def _wait(descriptor: int, message: str) -> None:
    """Lock an open file or folder, and print the message if another process holds it; do nothing without locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        console.err.print(message, markup=False)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return


def remove_parts(folder: Path) -> None:
    """Remove partial files of processes that do not live on this machine any more."""
    for part in folder.glob(f".*.[0-9]*{_PART}"):
        if found := re.search(rf"\.(\d+)(-\d+)?{re.escape(_PART)}$", part.name):
            try:
                os.kill(int(found[1]), 0)
            except (ProcessLookupError, OverflowError):
                part.unlink(missing_ok=True)
            except PermissionError:  # of another user, and alive
                continue


@contextlib.contextmanager
def locked(lock: Path, message: str = "") -> Iterator[None]:
    """Hold a lock file for a ``with`` block, after waiting for its owner; the system releases it when a process ends.

    Args:
        lock: path of the lock file, which stays.
        message: text to print if another process holds the lock, or "" for none.

    Raises:
        StorageError: the folder is not writable.
    """
    with contextlib.ExitStack() as stack:
        with storage_errors(lock.parent):
            lock.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(lock, fallback_to_soft=False)
            try:
                stack.enter_context(held.acquire(blocking=False))
            except Timeout:
                if message:
                    console.err.print(message, markup=False)
                stack.enter_context(held.acquire())
        yield


def state(found: os.stat_result) -> list[int]:
    """Return numbers that change with every change of a file, even if its times were set."""
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def sha256(path: Path) -> str:
    """Return the checksum of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
