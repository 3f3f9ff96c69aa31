"""Storage of results, a folder or an object store: joining locations, opening them, and retrying.

Ray gives up an upload at the first error, and Arrow retries for only a few seconds. So an object store that is
unavailable for half a minute would end every trial that writes a checkpoint in that time. Therefore Ray gets file
systems that retry for ``PATIENCE_S``. Google's file system retries for 15 minutes by itself.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import ArrowException, fs

from htt import console, files
from htt.data.store.remote import is_remote, refuse_password, retried
from htt.errors import StorageError

PATIENCE_S = 100.0
"""How long an object store may be unavailable, s."""
_S3_FIRST_PAUSE_S = 0.025
"""Pause between the first two tries of Amazon's client, s; each pause is twice as long as the previous one."""

ResultT = TypeVar("ResultT")


class PatientS3(fs.S3FileSystem):  # type: ignore[misc] # pyarrow has no types
    """S3 file system that retries for ``PATIENCE_S``, also after it is pickled to another process."""

    def __init__(self, **options: Any) -> None:
        tries = math.ceil(math.log2(PATIENCE_S / _S3_FIRST_PAUSE_S))
        super().__init__(**options, retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=tries))

    def __reduce__(self) -> Any:
        return _patient_s3, super().__reduce__()[1]


def _patient_s3(options: dict[str, Any]) -> PatientS3:
    return PatientS3(**options)


def absolute_uri(uri: str) -> str:
    """Return a ``--storage`` in the form for Ray, Arrow and all processes: a URI, or the absolute path of a folder.

    Args:
        uri: input of a user: a folder, such as ~/runs, or a URI, also file://.

    Raises:
        ConfigError: the URI contains a password.
    """
    refuse_password(uri, "--storage")
    return uri if is_remote(uri) else os.path.abspath(Path(uri.removeprefix("file://")).expanduser())


def join_uri(uri: str, *names: str) -> str:
    """Return the location of ``names`` below a folder or URI; the options of a URI stay at its end.

    >>> join_uri("s3://bucket/runs/?region=eu-west-1", "first", "train")
    's3://bucket/runs/first/train?region=eu-west-1'
    """
    path, mark, options = uri.partition("?") if "://" in uri else (uri, "", "")
    return "/".join([path.rstrip("/"), *names]) + mark + options


def shown_uri(uri: str) -> str:
    """Return a folder or URI without options, for messages."""
    return uri.partition("?")[0] if "://" in uri else uri


def open_uri(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a folder or URI, and the path in it."""
    if "://" in uri:
        system, path = fs.FileSystem.from_uri(uri)
        return system, path.rstrip("/")
    return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())


def ray_storage(uri: str) -> dict[str, Any]:
    """Return ``storage_path`` and, for a URI, ``storage_filesystem`` for Ray Tune and Ray Train."""
    if "://" not in uri:
        return {"storage_path": uri}
    system, path = fs.FileSystem.from_uri(uri)
    if isinstance(system, fs.S3FileSystem):
        system = _patient_s3(*system.__reduce__()[1])
    return {"storage_path": path.rstrip("/"), "storage_filesystem": system}


class Location:
    """Folder or URI, opened once; requests are retried while the store does not answer."""

    def __init__(self, uri: str, hint: str = "") -> None:
        """Set the location; open nothing.

        Args:
            uri: folder or URI.
            hint: sentence at the end of error messages.
        """
        self.uri, self._hint = uri, hint
        self._opened: tuple[fs.FileSystem, str] | None = None
        self._away = False

    def open(self) -> tuple[fs.FileSystem, str]:
        """Return the file system and the path in it; Arrow cannot open another one while a request is waiting."""
        if self._opened is None:
            self._opened = open_uri(self.uri)
        return self._opened

    def request(self, work: Callable[[fs.FileSystem, str], ResultT]) -> ResultT:
        """Return the result of ``work``, which may be called several times; print once that the store does not answer.

        Raises:
            StorageError: the store refused, or did not answer for ``PATIENCE_S``.
        """
        with self.errors():
            result = retried(lambda: work(*self.open()), PATIENCE_S, on_wait=self._print_wait)
        self._away = False
        return result

    def is_file(self, name: str) -> bool:
        """Return whether a file exists below the location. Raises as ``request``."""
        return self.request(lambda system, path: bool(system.get_file_info(f"{path}/{name}").type == fs.FileType.File))

    def read(self, name: str = "") -> bytes | None:
        """Return the content of a small file, or None if there is no such file. Raises as ``request``."""

        def read(system: fs.FileSystem, path: str) -> bytes | None:
            file = f"{path}/{name}".rstrip("/")
            if system.get_file_info(file).type != fs.FileType.File:
                return None
            with system.open_input_stream(file) as stream:
                return bytes(stream.read())

        return self.request(read)

    def names(self, folder: str = "", kind: fs.FileType | None = None) -> list[str]:
        """Return the names of the entries of a folder, or [] if it does not exist. Raises as ``request``.

        Args:
            folder: path below the location.
            kind: only files or only folders, or None for both.
        """

        def entries(system: fs.FileSystem, path: str) -> list[fs.FileInfo]:
            return list(system.get_file_info(fs.FileSelector(f"{path}/{folder}".rstrip("/"), allow_not_found=True)))

        return [entry.base_name for entry in self.request(entries) if kind in (None, entry.type)]

    def errors(self) -> contextlib.AbstractContextManager[None]:
        """Convert the errors of the store to ``StorageError``."""
        return uri_errors(self.uri, self._hint)

    def _print_wait(self) -> None:
        """Print once, until the next success, that the store does not answer."""
        if not self._away:
            self._away = True
            console.err.print(
                f"Storage {shown_uri(self.uri)} does not answer; trying again for {PATIENCE_S:g} s.", markup=False
            )


def request(uri: str, work: Callable[[fs.FileSystem, str], ResultT]) -> ResultT:
    """Return the result of ``work`` on a folder or URI; see ``Location.request``."""
    return Location(uri).request(work)


def list_names(uri: str) -> list[str]:
    """Return the names of the entries of a folder or URI, or [] if it does not exist. Raises as ``request``."""
    return Location(uri).names()


def read_text(uri: str) -> str | None:
    """Return the text of a small file, or None if there is no such file. Raises as ``request``."""
    content = Location(uri).read()
    return None if content is None else content.decode("utf-8")


def write_text(uri: str, text: str) -> None:
    """Write a small file. Raises as ``request``."""

    def write(system: fs.FileSystem, path: str) -> None:
        if isinstance(system, fs.LocalFileSystem):
            files.write_text(Path(path), text)
            return
        with system.open_output_stream(path) as stream:
            stream.write(text.encode("utf-8"))

    request(uri, write)


@contextlib.contextmanager
def uri_errors(uri: str, hint: str = "") -> Iterator[None]:
    """Convert an ``OSError`` or ``ArrowException`` of a store to ``StorageError``, with a sentence at its end."""
    try:
        yield
    except (OSError, ArrowException) as error:
        raise StorageError(
            f"--storage must be a writable folder or URI; {uri} failed: {error}.{hint and ' '}{hint}"
        ) from error
