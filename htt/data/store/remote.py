"""Access to a folder of shards in an object store: reads in blocks, with retries and clear errors.

Temporary errors (connection, busy server) are retried for ``PATIENCE_S``. Permanent errors (no such bucket, no
permission) are raised at once. If a store does not answer, each try takes seconds, because Arrow itself retries.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from htt.errors import ConfigError, DataError, HTTError, StorageError

PATIENCE_S = 60.0
"""Time without data after which a store counts as unreachable, s."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""First and longest pause between two tries, s; each pause is twice the one before."""
BLOCK_BYTES = 8 * 2**20
"""Number of bytes per request."""

_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_SIGNATURE|SIGNATURE_DOES_NOT_MATCH|PERMISSION_DENIED|UNAUTHENTICATED|"
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthorizationFailure|HTTP status 40[13]|Permission denied"
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|Bucket '.*' not found")

_WITHOUT_FOLDERS = ("s3", "gs", "gcs")
"""Stores where creating a folder needs a permission that writing a file does not."""

_SECRET = re.compile(
    r"secret|token|passw|passphrase|signature|credential(?!_kind)|(access|account|api|private|storage)[-_]?key|"
    r"^(key|sig|sas|pwd)$|^sas[-_]",
    re.IGNORECASE,
)
"""Pattern for names of options that hold secrets."""
_OF_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS (the path of a file)"
_OF_AZURE = "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
_INSTEAD = {"gs": _OF_GOOGLE, "gcs": _OF_GOOGLE, "abfs": _OF_AZURE, "abfss": _OF_AZURE}

Found = TypeVar("Found")


class StoppedError(Exception):
    """Raised when a download is aborted because the process ends."""


def is_remote(place: str) -> bool:
    """Return True if ``place`` is the URI of an object store, not a local folder."""
    return "://" in place and not place.startswith("file://")


def refuse_password(place: str, name: str) -> None:
    """Refuse a folder or URI that contains credentials, without repeating them in the message.

    Args:
        place: folder or URI.
        name: name of ``place`` in messages, such as data.root or --storage.

    Raises:
        ConfigError: the URI contains credentials.
    """
    where, _, options = place.partition("?")
    scheme, _, rest = where.partition("://")
    first, at, _ = rest.partition("@")
    in_path = "/" in first and ":" not in first.partition("/")[0]  # an access key may contain a slash, too
    user = ":" not in first and (scheme.startswith(("abfs", "hdfs", "viewfs")) or first == "anonymous")
    given = [(key, unquote(value)) for key, value in parse_qsl(options, keep_blank_values=True)]
    if (at and not in_path and not user) or any(_SECRET.search(key) or _has_user(key, value) for key, value in given):
        instead = _INSTEAD.get(scheme, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        raise ConfigError(
            "A URI must hold no password, key or token, for it is written to configurations and reports; the one of "
            f"{name} does. Leave it out and set {instead} instead."
        )


def _has_user(key: str, value: str) -> bool:
    """Return True if an option is a server address that contains a user name, and perhaps a password."""
    address = "://" in value or re.search("endpoint|authority|host|proxy|url", key)
    return bool(address) and "@" in value.partition("://")[2 if "://" in value else 0].partition("/")[0]


class Remote:
    """Folder in an object store. Safe to use from several threads."""

    def __init__(self, uri: str, system: fs.FileSystem | None = None, path: str = "", name: str = "data.root") -> None:
        """Open the file system of the folder; reads no file.

        Args:
            uri: URI such as s3://bucket/h2o or gs://bucket/h2o, with the options of ``pyarrow.fs`` after a "?".
            system: file system, or None for that of ``uri``.
            path: path of the folder in ``system``.
            name: name of the folder in messages, such as data.root or --to.

        Raises:
            ConfigError: the URI is invalid or contains a password.
            StorageError: the store does not answer when asked for the location of the bucket.
        """
        self._system: Any
        self.uri, self._scheme, self.stopping = uri, urlsplit(uri).scheme, threading.Event()
        self._system, self._path, self._name = system, path, name
        if system is None:
            self._system, self._path = self._open(uri)

    def place(self, file: str) -> str:
        """Return the URI of a file in the folder, for messages."""
        return f"{self._scheme}://{self._path}/{file}"

    def read(self, file: str) -> bytes:
        """Read a whole small file; raises the errors of ``blocks``."""
        return b"".join(self.blocks(file))

    def size(self, file: str) -> int | None:
        """Return the size of a file in bytes, or None if it does not exist; raises the errors of ``blocks``."""
        found = self._patiently(lambda: self._system.get_file_info(f"{self._path}/{file}"), file)
        size: int | None = found.size if found.type == fs.FileType.File else None
        return size

    def blocks(self, file: str, since: float | None = None) -> Iterator[bytes]:
        """Yield the bytes of a file, in order; failed blocks are requested again.

        Args:
            file: name of the file in the folder.
            since: ``time.monotonic()`` when the wait for the file started, or None for now.

        Raises:
            DataError: there is no such file or bucket.
            StorageError: the store refuses access, or cannot be reached for ``PATIENCE_S``.
            StoppedError: ``stopping`` was set meanwhile.
        """
        opened: list[Any] = []

        def handle() -> Any:
            if not opened:
                opened.append(self._system.open_input_file(f"{self._path}/{file}"))
            return opened[0]

        def block() -> bytes:
            try:
                return bytes(handle().read_at(BLOCK_BYTES, offset))
            except (OSError, pa.ArrowException):
                opened.clear()  # do not reuse a broken connection
                raise

        offset = 0
        while True:
            found = self._patiently(block, file, since)
            if not found:
                return
            yield found
            offset, since = offset + len(found), None
            if len(found) < BLOCK_BYTES:
                return

    def no_bucket(self) -> DataError | None:
        """Return an error if the bucket does not exist, or None if it exists or access is denied."""
        bucket = self._path.partition("/")[0]
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._system is None or self._system.get_file_info(bucket).type == fs.FileType.NotFound:
                return DataError(
                    f"{self._name} must name a bucket that is there; {self._scheme}://{bucket} is not. Check its name, "
                    "and the region or endpoint_override in the URI."
                )
        return None

    def write(self, file: str, blocks: Iterator[bytes]) -> None:
        """Write a file atomically.

        Raises:
            DataError: there is no such bucket.
            StorageError: the store refuses access or cannot be reached.
        """
        try:
            if self._scheme not in _WITHOUT_FOLDERS:
                self._system.create_dir(self._path, recursive=True)
            with self._system.open_output_stream(f"{self._path}/{file}") as stream:
                for block in blocks:
                    stream.write(block)
        except (OSError, pa.ArrowException) as error:
            raise self._final(error, file) or self._unreachable(error) from error

    def _patiently(self, work: Callable[[], Found], file: str, since: float | None = None) -> Found:
        """Call ``work`` until it succeeds: at least once, with retries for ``PATIENCE_S`` after ``since``."""
        since, pause = time.monotonic() if since is None else since, FIRST_PAUSE_S
        while True:
            if self.stopping.is_set():
                raise StoppedError(file)
            try:
                return work()
            except ValueError:  # an invalid URI; first, because ArrowInvalid is an ArrowException, too
                raise
            except (OSError, pa.ArrowException) as error:
                final = self._final(error, file)
                if final is not None:
                    raise final from error
                if time.monotonic() + pause - since > PATIENCE_S:
                    raise self._unreachable(error) from error
            self.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def _final(self, error: Exception, file: str) -> HTTError | None:
        """Return the error to raise if ``error`` is permanent, or None if it may be temporary."""
        if _is_missing(error):
            gone = DataError(f"{self.place(file)} must be there; it is missing. Copy it there again.")
            return self.no_bucket() or gone
        if _is_refused(error):
            return StorageError(
                f"Data must be open to the credentials of this machine; {self.place(file)} is not: "
                f"{_short(error)}. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the machine's role."
            )
        return None

    def _unreachable(self, error: Exception) -> StorageError:
        return StorageError(
            f"{self._scheme}://{self._path} must be reachable; it was not for {PATIENCE_S:g} s: {_short(error)}. Check "
            "the network and the endpoint; the same command goes on from what is in the cache."
        )

    def _open(self, uri: str) -> tuple[fs.FileSystem, str]:
        refuse_password(uri, self._name)
        parts = urlsplit(uri)
        self._path = f"{parts.netloc}{parts.path}".strip("/")
        try:
            system, path = self._patiently(lambda: fs.FileSystem.from_uri(uri), "")
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"{self._name} must be a folder, or a URI such as s3://bucket/h2o; {uri} is none: {_short(error)}."
            ) from error
        if not path.strip("/"):
            raise ConfigError(f"{self._name} must name a bucket, as in s3://bucket/h2o; got {uri}.")
        return system, path.rstrip("/")


def lasts(error: Exception) -> bool:
    """Return True if an error is permanent: refused or missing in the store, or a local error with an errno."""
    numbered = isinstance(error, OSError) and error.errno is not None
    return numbered or not isinstance(error, OSError) or _is_missing(error) or _is_refused(error)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or bool(_NO_BUCKET.search(str(error)))


def _is_refused(error: Exception) -> bool:
    return isinstance(error, PermissionError) or bool(_REFUSED.search(str(error)))


def _short(error: Exception) -> str:
    """Return the message of an error as one line, without details."""
    return " ".join(str(error).split()).partition("; Details:")[0].rstrip(".")
