"""A folder in the cache for shards in an object store: made of little, filled while it is read.

``mirror`` fetches the manifest and the labels, and notes where the shards are. Whoever opens that folder gets shards as
they are needed; all else is as with any folder.
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
"""In a folder of the cache: where its shards are."""
ROOTS = "roots"
_AHEAD = 2
"""A cache that cannot hold all is filled ahead to one part in so many; the rest is what is in use."""


class Origin(BaseModel):
    """Where the shards of a folder in the cache come from, and how much of the disk they may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    limit_bytes: int | None = None


class MirroredFolder:
    """A folder in the cache, whose shards are downloaded when they are needed. It pickles."""

    streams = True

    def __init__(self, root: Path, remote: Remote | None = None) -> None:
        """Open a folder that ``mirror`` made; no shard is fetched yet.

        Raises:
            DataError: its note of where the shards are cannot be read.
            StorageError: the store does not answer.
        """
        try:
            origin = Origin.model_validate_json((root / ORIGIN).read_bytes())
        except (OSError, ValidationError) as error:
            raise DataError(f"{root} must be a folder of the cache; it is broken. Delete it: {error}.") from error
        self.manifest, self._root = manifest.read(root), root
        self._remote = remote or Remote(origin.uri)
        self.place = self._remote.place("").rstrip("/")
        self._cache = Cache(root.parents[1] / cache.FOLDER, origin.limit_bytes)
        total = sum(shard.bytes for of_split in self.manifest.splits.values() for shard in of_split)
        self.holds_all = origin.limit_bytes is None or total <= origin.limit_bytes
        ahead = None if self.holds_all or origin.limit_bytes is None else origin.limit_bytes // _AHEAD
        self.prefetcher = Prefetcher(self._cache, self._remote, ahead)

    def __reduce__(self) -> Any:
        return open_mirror, (self._root,)

    def open(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
        """A shard, downloaded first if it is not there; see ``Cache.mapped``."""
        reader = arrow.of_map(self._cache.mapped(shard, self._remote), self.file(shard), columns)
        self.prefetcher.reached(shard)
        return reader

    def file(self, shard: Shard) -> str:
        """Its place in the store."""
        return self._remote.place(shard.file)

    def labels(self, split: str) -> pa.Table | None:
        """The labels of a split's clips, if the folder was made with them."""
        return labels.of_folder(self._root, self.manifest, split)

    def expect(self, needs: Sequence[Shard]) -> None:
        """Download them meanwhile, in this order."""
        self.prefetcher.expect(needs)

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """Download them when those expected are there."""
        self.prefetcher.expect_later(needs)


def open_mirror(root: Path) -> MirroredFolder:
    """A folder that ``mirror`` made: one for each process, so that its splits share what is on its way."""
    return _opened(root, (root / ORIGIN).read_bytes())


@functools.cache
def _opened(root: Path, origin: bytes) -> MirroredFolder:  # noqa: ARG001 - with another limit it is another
    return MirroredFolder(root)


def is_mirror(root: Path) -> bool:
    """Whether the shards of a folder come from an object store."""
    return (root / ORIGIN).is_file()


@functools.cache
def mirror(uri: str, cache_folder: Path, limit_bytes: int | None = None, name: str = "data.root") -> Path:
    """A folder in the cache for shards in an object store: manifest and labels are fetched, once for each process.

    Messages call it by ``name``.

    Raises:
        ConfigError: ``uri`` is none that can be read.
        DataError: there are no shards.
        StorageError: the store cannot be read, or the cache not be written.
    """
    remote = Remote(uri, name=name)
    if remote.size(manifest.NAME) is None:
        raise remote.no_bucket() or _no_manifest(remote, name)
    content = remote.read(manifest.NAME)
    found = manifest.parse(content, remote.place(manifest.NAME))
    root = cache_folder / ROOTS / hashlib.sha256(uri.encode() + content).hexdigest()[:16]
    with files.locked(cache_folder / ROOTS / ".lock"):
        if found.labels:
            _keep(root / found.labels.file, remote, found.labels)
        _put(root / manifest.NAME, content)
        _put(root / ORIGIN, Origin(uri=uri, limit_bytes=limit_bytes).model_dump_json().encode())
    return root


def _no_manifest(remote: Remote, name: str) -> DataError:
    """The error of a place in an object store without a manifest."""
    place = remote.place("").rstrip("/")
    return DataError(
        f"{name} must be a folder of shards, with a {manifest.NAME}; {place} has none. Make shards in a folder of "
        f"this machine (python -m htt.data.convert), then: python -m htt.data.publish --shards FOLDER --to {place}"
    )


def _keep(path: Path, remote: Remote, wanted: manifest.Labels) -> None:
    """Fetch a small file, unless it is there as it should be."""
    if path.is_file() and files.sha256(path) == wanted.sha256:
        return
    content = remote.read(wanted.file)
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        content = remote.read(wanted.file)
        if hashlib.sha256(content).hexdigest() != wanted.sha256:
            raise DataError(
                f"Shards must be what their manifest promises; {remote.place(wanted.file)} was fetched twice and has "
                f"not the sha256 {wanted.sha256} of its manifest. Copy it there again."
            )
    _put(path, content)


def _put(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        with files.replacing(path) as temporary:
            temporary.write_bytes(content)
