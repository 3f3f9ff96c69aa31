"""Where results are kept, a folder or an object store: how places are joined, and opened with patience.

Ray gives an upload up at the first error, and Arrow tries for seconds: a store that is away for half a minute would
cost every trial that writes a checkpoint meanwhile. So Ray is given file systems that try for ``PATIENCE_S``. Google's
does so for 15 minutes by itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pyarrow import ArrowException, fs

from htt.data.remote import FIRST_PAUSE_S, LONGEST_PAUSE_S, lasts

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


def below(place: str, *names: str) -> str:
    """The place of something in a place; the options of a URI stay at its end.

    >>> below("s3://bucket/runs/?region=eu-west-1", "first", "train")
    's3://bucket/runs/first/train?region=eu-west-1'
    """
    where, mark, options = place.partition("?") if "://" in place else (place, "", "")
    return "/".join([where.rstrip("/"), *names]) + mark + options


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
    entries = system.get_file_info(fs.FileSelector(found["storage_path"], allow_not_found=True))
    return [entry.base_name for entry in entries]


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
