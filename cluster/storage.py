"""Where results are kept, a folder or an object store: how places are joined, and opened with patience.

Ray gives an upload up at the first error, and Arrow tries for seconds: a store that is away for half a minute would
cost every trial that writes a checkpoint meanwhile. So Ray is given file systems that try for ``PATIENCE_S``. Google's
does so for 15 minutes by itself.
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
"""So long a store may be away."""
_S3_FIRST_PAUSE_S = 0.025
"""Between the first two tries of Amazon's client; each pause is twice the one before."""

Found = TypeVar("Found")


class PatientS3(fs.S3FileSystem):  # type: ignore[misc] # pyarrow has no types
    """S3 that tries for ``PATIENCE_S``, in every process that it is sent to."""

    def __init__(self, **options: Any) -> None:
        tries = math.ceil(math.log2(PATIENCE_S / _S3_FIRST_PAUSE_S))
        super().__init__(**options, retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=tries))

    def __reduce__(self) -> Any:
        return _patient_s3, super().__reduce__()[1]


def _patient_s3(options: dict[str, Any]) -> PatientS3:
    return PatientS3(**options)


def settled(place: str) -> str:
    """A ``--storage`` as Ray, Arrow and every process take it: a URI, or the absolute path of a folder.

    Args:
        place: as a user may type it: a folder, also ~/runs, or a URI, also file://.

    Raises:
        ConfigError: it holds a password.
    """
    refuse_password(place, "--storage")
    return place if is_remote(place) else os.path.abspath(Path(place.removeprefix("file://")).expanduser())


def below(place: str, *names: str) -> str:
    """The place of something in a place; the options of a URI stay at its end.

    >>> below("s3://bucket/runs/?region=eu-west-1", "first", "train")
    's3://bucket/runs/first/train?region=eu-west-1'
    """
    where, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return "/".join([where.rstrip("/"), *names]) + mark + options


def open_place(place: str) -> tuple[fs.FileSystem, str]:
    """The file system of a folder or URI, and the path there."""
    if "://" in place:
        system, path = fs.FileSystem.from_uri(place)
        return system, path.rstrip("/")
    return fs.LocalFileSystem(), str(Path(place).expanduser().absolute())


def for_ray(place: str) -> dict[str, Any]:
    """``storage_path`` and ``storage_filesystem``, as Ray Tune and Ray Train take them.

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
    """The names of what is in a place; none, where it does not exist.

    Args:
        place: a folder or URI.
    """
    found = for_ray(place)
    system = found.get("storage_filesystem", fs.LocalFileSystem())
    return _names(system, found["storage_path"])


def _names(system: fs.FileSystem, path: str) -> list[str]:
    return [entry.base_name for entry in system.get_file_info(fs.FileSelector(path, allow_not_found=True))]


def ask(place: str, work: Callable[[fs.FileSystem, str], Found]) -> Found:
    """Do a thing with a place, which may be done twice; one that does not answer is waited for, and a line says so.

    Args:
        place: a folder or URI.
        work: is given the file system and the path there.

    Raises:
        StorageError: the place refuses, or did not answer for ``PATIENCE_S``.
    """
    with refusals(place):
        return patiently(lambda: work(*open_place(place)), lambda: say_it_is_away(place))


def is_empty(place: str) -> bool:
    """Whether there is nothing in a place. Raises as ``ask`` does."""
    return not ask(place, _names)


def read_text(place: str) -> str | None:
    """What a small file holds; none: there is no such file. Raises as ``ask`` does."""

    def read(system: fs.FileSystem, path: str) -> str | None:
        if system.get_file_info(path).type != fs.FileType.File:
            return None
        with system.open_input_stream(path) as stream:
            return str(stream.read().decode("utf-8"))

    return ask(place, read)


def write_text(place: str, text: str) -> None:
    """Write a small file. Raises as ``ask`` does."""

    def write(system: fs.FileSystem, path: str) -> None:
        if isinstance(system, fs.LocalFileSystem):  # in a bucket, making one needs a right that writing does not
            system.create_dir(path.rpartition("/")[0], recursive=True)
        with system.open_output_stream(path) as stream:
            stream.write(text.encode("utf-8"))

    ask(place, write)


@contextlib.contextmanager
def refusals(place: str, more: str = "") -> Iterator[None]:
    """Turn what a store says that refuses, or stays away, into a ``StorageError``.

    Args:
        place: a folder or URI.
        more: a sentence to end with.
    """
    try:
        yield
    except (OSError, ArrowException) as error:
        raise StorageError(
            f"--storage must be a folder or URI that can be written; {place} refuses: {error}.{more and ' '}{more}"
        ) from error


def say_it_is_away(place: str) -> None:
    """The line for whoever waits for a store."""
    limit = f"{PATIENCE_S:g} s"
    console.err.print(f"Storage {place.partition('?')[0]} does not answer; trying again for {limit}.", markup=False)


def patiently(work: Callable[[], Found], waits: Callable[[], object]) -> Found:
    """Do a thing with a store, again and again while it does not answer.

    Args:
        work: may be done twice.
        waits: called once, when it is going to be tried again.

    Raises:
        OSError, ArrowException: the store refuses, or did not answer for ``PATIENCE_S``.
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
