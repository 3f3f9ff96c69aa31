"""A folder of shards in an object store: read in blocks, with patience, and refused in one sentence.

What may pass (a connection, a busy server) is tried again for ``PATIENCE_S``. What will not pass (no such bucket, no
permission) is said at once. A store that answers nothing holds each try for seconds: Arrow tries a few times itself.
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
"""So long without a byte, then a store counts as unreachable."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""Between two tries; each pause is twice the one before."""
BLOCK_BYTES = 8 * 2**20
"""Read at once: each block is a request."""

_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|INVALID_SIGNATURE|SIGNATURE_DOES_NOT_MATCH|PERMISSION_DENIED|UNAUTHENTICATED|"
    r"InvalidAccessKeyId|SignatureDoesNotMatch|AuthorizationFailure|HTTP status 40[13]|Permission denied"
)
_NO_BUCKET = re.compile(r"NO_SUCH_BUCKET|NoSuchBucket|ContainerNotFound|Bucket '.*' not found")

_WITHOUT_FOLDERS = ("s3", "gs", "gcs")
"""Stores where making a folder needs a right that writing a file does not."""

_SECRET = re.compile(
    r"secret|token|passw|passphrase|signature|credential(?!_kind)|(access|account|api|private|storage)[-_]?key|"
    r"^(key|sig|sas|pwd)$|^sas[-_]",
    re.IGNORECASE,
)
"""What the name of an option says of its value."""
_OF_GOOGLE = "GOOGLE_APPLICATION_CREDENTIALS (the path of a file)"
_OF_AZURE = "AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET"
_INSTEAD = {"gs": _OF_GOOGLE, "gcs": _OF_GOOGLE, "abfs": _OF_AZURE, "abfss": _OF_AZURE}

Found = TypeVar("Found")


class StoppedError(Exception):
    """A download was given up, for its process ends."""


def is_remote(place: str) -> bool:
    """Whether a place is a URI of an object store, rather than a folder of this machine."""
    return "://" in place and not place.startswith("file://")


def refuse_password(place: str, name: str) -> None:
    """Refuse a place whose URI holds credentials, and never repeat them.

    Args:
        place: a folder or URI.
        name: what messages call it, as data.root or --storage.

    Raises:
        ConfigError: it does.
    """
    where, _, options = place.partition("?")
    scheme, _, rest = where.partition("://")
    first, at, _ = rest.partition("@")
    in_path = "/" in first and ":" not in first.partition("/")[0]  # a key may have a slash, too
    user = ":" not in first and (scheme.startswith(("abfs", "hdfs", "viewfs")) or first == "anonymous")
    given = [(key, unquote(value)) for key, value in parse_qsl(options, keep_blank_values=True)]
    if (at and not in_path and not user) or any(_SECRET.search(key) or _has_user(key, value) for key, value in given):
        instead = _INSTEAD.get(scheme, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        raise ConfigError(
            "A URI must hold no password, key or token, for it is written to configurations and reports; the one of "
            f"{name} does. Leave it out and set {instead} instead."
        )


def _has_user(key: str, value: str) -> bool:
    """Whether an option is the address of a server, with a user's name and perhaps a password in it."""
    address = "://" in value or re.search("endpoint|authority|host|proxy|url", key)
    return bool(address) and "@" in value.partition("://")[2 if "://" in value else 0].partition("/")[0]


class Remote:
    """A folder in an object store. Safe to use from several threads."""

    def __init__(self, uri: str, system: fs.FileSystem | None = None, path: str = "", name: str = "data.root") -> None:
        """Name the folder; nothing is read yet.

        Args:
            uri: such as s3://bucket/h2o or gs://bucket/h2o, with the options of ``pyarrow.fs`` behind a "?".
            system: None: the one ``uri`` names.
            path: of the folder in ``system``.
            name: what messages call it, as data.root or --to.

        Raises:
            ConfigError: it is no URI that can be read, or holds a password.
            StorageError: the store that knows where its bucket is does not answer.
        """
        self._system: Any
        self.uri, self._scheme, self.stopping = uri, urlsplit(uri).scheme, threading.Event()
        self._system, self._path, self._name = system, path, name
        if system is None:
            self._system, self._path = self._open(uri)

    def place(self, file: str) -> str:
        """What messages call a file of the folder."""
        return f"{self._scheme}://{self._path}/{file}"

    def read(self, file: str) -> bytes:
        """A small file, whole; see ``blocks`` for what it raises."""
        return b"".join(self.blocks(file))

    def size(self, file: str) -> int | None:
        """How many bytes a file has; None: there is none. See ``blocks`` for what it raises."""
        found = self._patiently(lambda: self._system.get_file_info(f"{self._path}/{file}"), file)
        size: int | None = found.size if found.type == fs.FileType.File else None
        return size

    def blocks(self, file: str, since: float | None = None) -> Iterator[bytes]:
        """The bytes of a file, in order; a block that fails is asked for again.

        Args:
            file: its name in the folder.
            since: ``time.monotonic`` when the wait for it began; none: now.

        Raises:
            DataError: there is no such file or bucket.
            StorageError: the store refuses, or cannot be reached for ``PATIENCE_S``.
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
                opened.clear()  # a connection that broke is not used again
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
        """The error of a bucket that is not there; None if it is, or if it may not be asked about."""
        bucket = self._path.partition("/")[0]
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._system is None or self._system.get_file_info(bucket).type == fs.FileType.NotFound:
                return DataError(
                    f"{self._name} must name a bucket that is there; {self._scheme}://{bucket} is not. Check its name, "
                    "and the region or endpoint_override in the URI."
                )
        return None

    def write(self, file: str, blocks: Iterator[bytes]) -> None:
        """Write a file, whole or not at all.

        Raises:
            DataError: there is no such bucket.
            StorageError: the store refuses, or cannot be reached.
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
        """Do a thing, again and again if need be: once at least, and for ``PATIENCE_S`` since ``since``."""
        since, pause = time.monotonic() if since is None else since, FIRST_PAUSE_S
        while True:
            if self.stopping.is_set():
                raise StoppedError(file)
            try:
                return work()
            except ValueError:  # of a URI; Arrow's is one of its exceptions, too
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
        """The error of what will not pass."""
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
    """Whether a store's error will not pass by waiting: what it says itself, or what this machine says by a number."""
    numbered = isinstance(error, OSError) and error.errno is not None
    return numbered or not isinstance(error, OSError) or _is_missing(error) or _is_refused(error)


def _is_missing(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) or bool(_NO_BUCKET.search(str(error)))


def _is_refused(error: Exception) -> bool:
    return isinstance(error, PermissionError) or bool(_REFUSED.search(str(error)))


def _short(error: Exception) -> str:
    """What an error says, on one line, without its details."""
    return " ".join(str(error).split()).partition("; Details:")[0].rstrip(".")
