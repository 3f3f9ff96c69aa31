"""Storage of results, a folder or an object store: joining locations, opening them, and retrying.

Ray gives up an upload at the first error, and Arrow retries for only a few seconds. So an object store that is
unavailable for half a minute would end every trial that writes a checkpoint in that time. Therefore Ray gets file
systems that retry for ``PATIENCE_S``. Google's file system retries for 15 minutes by itself.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pyarrow import ArrowException, fs

from htt import console
from htt.data.store.remote import FIRST_PAUSE_S, LONGEST_PAUSE_S, is_remote, lasts, refuse_password
from htt.errors import StorageError

PATIENCE_S = 100.0
"""How long an object store may be unavailable, s."""
_S3_FIRST_PAUSE_S = 0.025
"""Pause between the first two tries of Amazon's client, s; each pause is twice as long as the previous one."""

Found = TypeVar("Found")


class PatientS3(fs.S3FileSystem):  # type: ignore[misc] # pyarrow has no types
    """S3 file system that retries for ``PATIENCE_S``, also after it is pickled to another process."""

    def __init__(self, **options: Any) -> None:
        tries = math.ceil(math.log2(PATIENCE_S / _S3_FIRST_PAUSE_S))
        super().__init__(**options, retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=tries))

    def __reduce__(self) -> Any:
        return _patient_s3, super().__reduce__()[1]


def _patient_s3(options: dict[str, Any]) -> PatientS3:
    return PatientS3(**options)


def settled(place: str) -> str:
    """Return a ``--storage`` in the form for Ray, Arrow and all processes: a URI, or the absolute path of a folder.

    Args:
        place: input of a user: a folder, such as ~/runs, or a URI, also file://.

    Raises:
        ConfigError: the URI contains a password.
    """
    refuse_password(place, "--storage")
    return place if is_remote(place) else os.path.abspath(Path(place.removeprefix("file://")).expanduser())


def below(place: str, *names: str) -> str:
    """Return the location of ``names`` below a folder or URI; the options of a URI stay at its end.

    >>> below("s3://bucket/runs/?region=eu-west-1", "first", "train")
    's3://bucket/runs/first/train?region=eu-west-1'
    """
    where, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return "/".join([where.rstrip("/"), *names]) + mark + options


def open_place(place: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a folder or URI, and the path in it."""
    if "://" in place:
        system, path = fs.FileSystem.from_uri(place)
        return system, path.rstrip("/")
    return fs.LocalFileSystem(), str(Path(place).expanduser().absolute())


def for_ray(place: str) -> dict[str, Any]:
    """Return ``storage_path`` and, for a URI, ``storage_filesystem`` for Ray Tune and Ray Train.

    Args:
        place: a folder or URI.
    """
    if "://" not in place:
        return {"storage_path": place}
    system, path = fs.FileSystem.from_uri(place)
    if isinstance(system, fs.S3FileSystem):
        system = _patient_s3(*system.__reduce__()[1])
    return {"storage_path": path.rstrip("/"), "storage_filesystem": system}


def listed(place: str) -> list[str]:
    """Return the names of the entries of a folder or URI, or an empty list if it does not exist.

    Args:
        place: a folder or URI.
    """
    found = for_ray(place)
    system = found.get("storage_filesystem", fs.LocalFileSystem())
    return _names(system, found["storage_path"])


def _names(system: fs.FileSystem, path: str) -> list[str]:
    return [entry.base_name for entry in system.get_file_info(fs.FileSelector(path, allow_not_found=True))]


def ask(place: str, work: Callable[[fs.FileSystem, str], Found]) -> Found:
    """Return the result of ``work`` on a folder or URI; retry with a message while the store does not answer.

    Args:
        place: a folder or URI.
        work: called with the file system and the path in it, perhaps several times.

    Raises:
        StorageError: the store refused, or did not answer for ``PATIENCE_S``.
    """
    with refusals(place):
        return patiently(lambda: work(*open_place(place)), lambda: say_it_is_away(place))


def is_empty(place: str) -> bool:
    """Return True if a folder or URI has no entries or does not exist. Raises as ``ask``."""
    return not ask(place, _names)


def read_text(place: str) -> str | None:
    """Return the text of a small file, or None if there is no such file. Raises as ``ask``."""

    def read(system: fs.FileSystem, path: str) -> str | None:
        if system.get_file_info(path).type != fs.FileType.File:
            return None
        with system.open_input_stream(path) as stream:
            return str(stream.read().decode("utf-8"))

    return ask(place, read)


def write_text(place: str, text: str) -> None:
    """Write a small file. Raises as ``ask``."""

    def write(system: fs.FileSystem, path: str) -> None:
        if isinstance(system, fs.LocalFileSystem):  # in a bucket, making a folder needs one more permission
            system.create_dir(path.rpartition("/")[0], recursive=True)
        with system.open_output_stream(path) as stream:
            stream.write(text.encode("utf-8"))

    ask(place, write)


@contextlib.contextmanager
def refusals(place: str, more: str = "") -> Iterator[None]:
    """Raise a ``StorageError`` in place of an ``OSError`` or ``ArrowException`` of a store.

    Args:
        place: a folder or URI.
        more: sentence at the end of the message.
    """
    try:
        yield
    except (OSError, ArrowException) as error:
        raise StorageError(
            f"--storage must be a folder or URI that can be written; {place} refuses: {error}.{more and ' '}{more}"
        ) from error


def say_it_is_away(place: str) -> None:
    """Print that a store does not answer and is tried again."""
    limit = f"{PATIENCE_S:g} s"
    console.err.print(f"Storage {place.partition('?')[0]} does not answer; trying again for {limit}.", markup=False)


def patiently(work: Callable[[], Found], waits: Callable[[], object]) -> Found:
    """Return the result of ``work``; retry while the store does not answer.

    Args:
        work: may be called several times.
        waits: called once, before the first retry.

    Raises:
        OSError, ArrowException: the store refused, or did not answer for ``PATIENCE_S``.
    """
    since, pause = time.monotonic(), FIRST_PAUSE_S
    while True:
        try:
            return work()
        except (OSError, ArrowException) as error:
            if lasts(error) or time.monotonic() + pause - since > PATIENCE_S:
                raise
        if pause == FIRST_PAUSE_S:
            waits()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
