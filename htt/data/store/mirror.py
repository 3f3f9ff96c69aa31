"""Cache folders that mirror shards in an object store and are filled while they are read.

``mirror`` fetches the manifest and the labels, and records the URI of the shards. Opening such a folder downloads
shards when they are needed; otherwise it behaves like a local folder.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from htt import files
from htt.data.shards import arrow, labels, manifest
from htt.data.shards.manifest import Shard
from htt.data.store import cache
from htt.data.store.cache import Cache
from htt.data.store.prefetch import Prefetcher
from htt.data.store.remote import Remote
from htt.errors import DataError

ORIGIN = "origin.json"
"""File in a cache folder that records the origin of its shards."""
ROOTS = "roots"
_AHEAD = 2
"""Divisor of the cache limit that gives the prefetch limit; the rest of the cache is for shards in use."""


class Origin(BaseModel):
    """Origin of the shards of a cache folder, and the disk space they may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    limit_bytes: int | None = None


class MirroredFolder:
    """Cache folder whose shards are downloaded when they are needed. Can be pickled."""

    streams = True

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        """Open a folder made by ``mirror``; fetches no shard.

        Raises:
            DataError: the record of the origin cannot be read.
            StorageError: the store does not answer.
        """
        try:
            origin = Origin.model_validate_json((root / ORIGIN).read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"Damaged cache folder {root}: {error}. Delete it.") from error
        self.manifest, self._root = manifest.read(root), root
        self._remote = remote or Remote(origin.uri)
        self.name = self._remote.shown()
        self._cache = Cache(root.parents[1] / cache.FOLDER, origin.limit_bytes)
        total = sum(shard.bytes for of_split in self.manifest.splits.values() for shard in of_split)
        self.holds_all = origin.limit_bytes is None or total <= origin.limit_bytes
        ahead = None if self.holds_all or origin.limit_bytes is None else origin.limit_bytes // _AHEAD
        self.prefetcher = Prefetcher(self._cache, self._remote, ahead)

    def __reduce__(self) -> Any:
        return open_mirror, (self._root,)

    def open(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
        """Open a shard, downloading it first if needed; see ``Cache.mapped``."""
        reader = arrow.of_map(self._cache.mapped(shard, self._remote), self.file(shard), columns)
        self.prefetcher.reached(shard)
        return reader

    def file(self, shard: Shard) -> str:
        """Return the URI of a shard."""
        return self._remote.shown(shard.file)

    def labels(self, split: str) -> pa.Table | None:
        """Return the labels of a split's clips, or None if the folder has no labels file."""
        return labels.of_folder(self._root, self.manifest, split)

    def expect(self, needs: Sequence[Shard]) -> None:
        """Download these shards in the background, in this order."""
        self.prefetcher.expect(needs)

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """Download these shards after the expected ones."""
        self.prefetcher.expect_later(needs)


def open_mirror(root: Path) -> MirroredFolder:
    """Open a folder made by ``mirror``, once per process, so that all splits share its downloads."""
    return _opened(root, (root / ORIGIN).read_bytes())


@functools.cache
def _opened(root: Path, origin: bytes) -> MirroredFolder:  # noqa: ARG001 - part of the cache key
    return MirroredFolder(root)


def is_mirror(root: Path) -> bool:
    """Return True if the shards of a folder come from an object store."""
    return (root / ORIGIN).is_file()


@functools.cache
def mirror(uri: str, cache_folder: Path, limit_bytes: int | None = None, name: str = "data.root") -> Path:
    """Return a cache folder for shards in an object store; fetches manifest and labels once per process.

    Args:
        uri: URI of the shards.
        cache_folder: root folder of the cache.
        limit_bytes: largest size of the cached shards, or None for no limit.
        name: name of the URI in messages.

    Raises:
        ConfigError: ``uri`` is not a valid URI.
        DataError: there are no shards.
        StorageError: the store cannot be read, or the cache cannot be written.
    """
    remote = Remote(uri, name=name)
    if remote.size(manifest.NAME) is None:
        raise remote.no_bucket() or _no_manifest(remote, name)
    content = remote.read(manifest.NAME)
    made = manifest.parse(content, remote.shown(manifest.NAME))
    root = cache_folder / ROOTS / hashlib.sha256(uri.encode() + content).hexdigest()[:16]
    with files.locked(cache_folder / ROOTS / ".lock"):
        if made.labels:
            _fetch(root / made.labels.file, remote, made.labels)
        _put(root / manifest.NAME, content)
        _put(root / ORIGIN, Origin(uri=uri, limit_bytes=limit_bytes).model_dump_json().encode())
    return root


def _no_manifest(remote: Remote, name: str) -> DataError:
    """Return the error for a remote folder without a manifest."""
    return DataError(
        f"{name} must be a folder of shards with a {manifest.NAME}; {remote.shown()} has none. Make shards in a local "
        "folder (python -m htt.data.convert), then run: python -m htt.data.publish --shards FOLDER --to "
        f"{remote.shown()}"
    )


def _fetch(path: Path, remote: Remote, wanted: manifest.Labels) -> None:
    """Fetch a small file, unless it is present with the right checksum."""
    if path.is_file() and files.sha256(path) == wanted.sha256:
        return
    content = remote.read(wanted.file)
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        content = remote.read(wanted.file)
        if hashlib.sha256(content).hexdigest() != wanted.sha256:
            raise cache.wrong_checksum(remote.shown(wanted.file), wanted.sha256)
    _put(path, content)


def _put(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        files.write_bytes(path, content)
