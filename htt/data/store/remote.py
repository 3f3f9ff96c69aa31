"""Access to a folder of shards in an object store: reads in blocks, with retries and clear errors.

Temporary errors (connection, busy server) are retried for ``PATIENCE_S``. Permanent errors (no such bucket, no
permission) are raised at once. If a store does not answer, each try takes seconds, because Arrow itself retries.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
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
_AWS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS (the path of a file)"
_AZURE = "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
_CREDENTIALS = {"gs": _GOOGLE, "gcs": _GOOGLE, "az": _AZURE, "abfs": _AZURE, "abfss": _AZURE}
"""Environment variables with the credentials, by scheme; ``_AWS`` for the others."""

ResultT = TypeVar("ResultT")


class StoppedError(Exception):
    """Raised when a download is aborted because the process ends."""


def is_remote(uri: str) -> bool:
    """Return True for the URI of an object store, and False for a local folder."""
    return "://" in uri and not uri.startswith("file://")


def retried(
    work: Callable[[], ResultT],
    patience_s: float,
    *,
    since: float | None = None,
    is_permanent: Callable[[Exception], bool] | None = None,
    stopping: threading.Event | None = None,
    on_wait: Callable[[], object] = lambda: None,
) -> ResultT:
    """Return the result of ``work``, which is called at least once, and again while a store does not answer.

    Args:
        work: may be called several times.
        patience_s: time for retries, s.
        since: ``time.monotonic()`` from which it counts, or None for the first failure.
        is_permanent: whether an error is raised at once, or None for ``lasts``.
        stopping: event that aborts the retries, or None.
        on_wait: called once, before the first retry.

    Raises:
        OSError, ArrowException: a permanent error, or the last error when the time is over.
        StoppedError: ``stopping`` was set.
    """
    pause = FIRST_PAUSE_S
    while True:
        if stopping and stopping.is_set():
            raise StoppedError
        try:
            return work()
        except (OSError, pa.ArrowException) as error:
            since = time.monotonic() if since is None else since
            if (is_permanent or lasts)(error) or time.monotonic() + pause - since > patience_s:
                raise
        if pause == FIRST_PAUSE_S:
            on_wait()
        (stopping.wait if stopping else time.sleep)(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)


def refuse_password(uri: str, name: str) -> None:
    """Refuse a folder or URI that contains credentials, without repeating them in the message.

    Args:
        uri: folder or URI.
        name: name of ``uri`` in messages, such as data.root or --storage.

    Raises:
        ConfigError: the URI contains credentials.
    """
    where, _, options = uri.partition("?")
    scheme, _, rest = where.partition("://")
    first, at, _ = rest.partition("@")
    in_path = "/" in first and ":" not in first.partition("/")[0]  # an access key may contain a slash, too
    user = ":" not in first and (scheme.startswith(("abfs", "hdfs", "viewfs")) or first == "anonymous")
    given = [(key, unquote(value)) for key, value in parse_qsl(options, keep_blank_values=True)]
    if (at and not in_path and not user) or any(_SECRET.search(key) or _has_user(key, value) for key, value in given):
        raise ConfigError(
            f"{name} must not contain a password, key or token, because the URI is written to configurations and "
            f"reports. Remove it from the URI and set {_CREDENTIALS.get(scheme, _AWS)} instead."
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

    def shown(self, file: str = "") -> str:
        """Return the URI of the folder, or of a file in it, without options, for messages."""
        return f"{self._scheme}://{self._path}{file and '/'}{file}"

    def read(self, file: str) -> bytes:
        """Read a whole small file; raises the errors of ``blocks``."""
        return b"".join(self.blocks(file))

    def size(self, file: str) -> int | None:
        """Return the size of a file in bytes, or None if it does not exist; raises the errors of ``blocks``."""
        info = self._retried(lambda: self._system.get_file_info(f"{self._path}/{file}"), file)
        size: int | None = info.size if info.type == fs.FileType.File else None
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
            content = self._retried(block, file, since)
            if not content:
                return
            yield content
            offset, since = offset + len(content), None
            if len(content) < BLOCK_BYTES:
                return

    def no_bucket(self) -> DataError | None:
        """Return an error if the bucket does not exist, or None if it exists or access is denied."""
        bucket = self._path.partition("/")[0]
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._system is None or self._system.get_file_info(bucket).type == fs.FileType.NotFound:
                also = ", and the region or endpoint_override in the URI" if self._scheme == "s3" else ""
                return DataError(
                    f"{self._name} must name an existing bucket; there is no {self._scheme}://{bucket}. Check its "
                    f"name{also}."
                )
        return None

    def write(self, file: str, blocks: Callable[[], Iterable[bytes]]) -> None:
        """Write a file; a failed upload is repeated.

        Args:
            file: name of the file in the folder.
            blocks: called for the content of the file, once for each try.

        Raises:
            DataError: there is no such bucket.
            StorageError: the store refuses access, or cannot be reached for ``PATIENCE_S``.
        """

        def upload() -> None:
            if self._scheme not in _WITHOUT_FOLDERS:
                self._system.create_dir(self._path, recursive=True)
            with self._system.open_output_stream(f"{self._path}/{file}") as stream:
                for block in blocks():
                    stream.write(block)

        self._retried(upload, file)

    def _retried(self, work: Callable[[], ResultT], file: str, since: float | None = None) -> ResultT:
        """Return the result of ``work``, with retries for ``PATIENCE_S``; raise its last error as one of ours."""
        try:
            return retried(work, PATIENCE_S, since=since, is_permanent=_is_permanent, stopping=self.stopping)
        except ValueError:  # an invalid URI; first, because ArrowInvalid is an ArrowException, too
            raise
        except (OSError, pa.ArrowException) as error:
            raise self._error(error, file) from error

    def _error(self, error: Exception, file: str) -> HTTError:
        if _is_missing(error):
            return self.no_bucket() or DataError(f"There is no {self.shown(file)}. Copy it there again.")
        if _is_refused(error):
            return StorageError(
                f"Cannot access {self.shown(file)} with the credentials of this machine: {_short(error)}. Check "
                f"{_CREDENTIALS.get(self._scheme, _AWS)}, or the machine's role."
            )
        return StorageError(
            f"{self.shown()} did not answer for {PATIENCE_S:g} s: {_short(error)}. Check the network and the "
            "endpoint; the same command continues with what is already transferred."
        )

    def _open(self, uri: str) -> tuple[fs.FileSystem, str]:
        refuse_password(uri, self._name)
        parts = urlsplit(uri)
        self._path = f"{parts.netloc}{parts.path}".strip("/")
        try:
            system, path = self._retried(lambda: fs.FileSystem.from_uri(uri), "")
        except (ValueError, NotImplementedError) as error:
            raise ConfigError(
                f"{self._name} must be a folder or a URI such as s3://bucket/h2o; got {uri}: {_short(error)}."
            ) from error
        if not path.strip("/"):
            raise ConfigError(f"{self._name} must name a bucket, as in s3://bucket/h2o; got {uri}.")
        return system, path.rstrip("/")


def lasts(error: Exception) -> bool:
    """Return True if an error is permanent: refused or missing in the store, or a local error with an errno."""
    numbered = isinstance(error, OSError) and error.errno is not None
    return numbered or not isinstance(error, OSError) or _is_missing(error) or _is_refused(error)


def _is_permanent(error: Exception) -> bool:
    """Return True if an error of a folder in a store is permanent: an invalid URI, or refused or missing there."""
    return isinstance(error, ValueError) or _is_missing(error) or _is_refused(error)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or bool(_NO_BUCKET.search(str(error)))


def _is_refused(error: Exception) -> bool:
    return isinstance(error, PermissionError) or bool(_REFUSED.search(str(error)))


def _short(error: Exception) -> str:
    """Return the message of an error as one line, without details."""
    return " ".join(str(error).split()).partition("; Details:")[0].rstrip(".")
