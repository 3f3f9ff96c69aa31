"""A folder of shards, as clips see it: all there, or filled from an object store while they are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from htt.data.shards import arrow, labels, manifest
from htt.data.shards.manifest import Manifest, Shard
from htt.data.store import mirror


class Folder(Protocol):
    """A folder of shards."""

    manifest: Manifest
    place: str
    """What messages call it."""
    streams: bool
    """Whether shards come only when they are needed."""
    holds_all: bool
    """Whether all shards of a split may be mapped at once."""

    def open(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
        """A shard, of which nothing is read but what is looked at."""

    def file(self, shard: Shard) -> str:
        """What messages call a shard."""

    def labels(self, split: str) -> pa.Table | None:
        """The labels of a split's clips; None: they must be read from its shards."""

    def expect(self, needs: Sequence[Shard]) -> None:
        """These shards are going to be opened, in this order."""

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """These shards may be opened after those that are expected."""


class LocalFolder:
    """A folder whose files are all there."""

    streams, holds_all = False, True

    def __init__(self, root: Path) -> None:
        """Read the manifest, and look whether the files are there.

        Raises:
            DataError: there is no manifest, or a file is missing or cut short.
        """
        self.manifest, self.place, self._root = manifest.read(root), str(root), root
        manifest.check_sizes(root, self.manifest)

    def open(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
        """A shard; see ``shards.open_shard``."""
        return arrow.open_shard(self._root / shard.file, columns)

    def file(self, shard: Shard) -> str:
        """Its path."""
        return str(self._root / shard.file)

    def labels(self, split: str) -> pa.Table | None:
        """The labels of a split's clips, if the folder was made with them."""
        return labels.of_folder(self._root, self.manifest, split)

    def expect(self, needs: Sequence[Shard]) -> None:
        """Nothing to do: they are there."""

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """Nothing to do: they are there."""


def open_folder(root: Path) -> Folder:
    """A folder of shards, whichever it is.

    Raises:
        DataError: there are no shards, or one is missing or cut short.
    """
    return mirror.open_mirror(root) if mirror.is_mirror(root) else LocalFolder(root)
