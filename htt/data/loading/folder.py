"""Access to a folder of shards, either local or filled from an object store while it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from htt.data.shards import arrow, labels, manifest
from htt.data.shards.manifest import Manifest, Shard
from htt.data.store import mirror


class Folder(Protocol):
    """Interface of a folder of shards."""

    manifest: Manifest
    name: str
    """Name of the folder in messages."""
    streams: bool
    """True if shards are downloaded when they are needed."""
    holds_all: bool
    """True if all shards of a split may be mapped at once."""

    def open(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
        """Open a shard; data are read from disk only when they are accessed."""

    def file(self, shard: Shard) -> str:
        """Return the name of a shard in messages."""

    def labels(self, split: str) -> pa.Table | None:
        """Return the labels of a split's clips, or None if they must be read from its shards."""

    def expect(self, needs: Sequence[Shard]) -> None:
        """Announce the shards that will be opened, in this order."""

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """Announce shards that may be opened after the expected ones."""


class LocalFolder:
    """Complete local folder of shards."""

    streams, holds_all = False, True

    def __init__(self, root: Path) -> None:
        """Read the manifest, and check that the files exist at their full size.

        Raises:
            DataError: there is no manifest, or a file is missing or truncated.
        """
        self.manifest, self.name, self._root = manifest.read(root), str(root), root
        manifest.check_sizes(root, self.manifest)

    def open(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
        """Open a shard; see ``arrow.open_shard``."""
        return arrow.open_shard(self._root / shard.file, columns)

    def file(self, shard: Shard) -> str:
        """Return the path of a shard."""
        return str(self._root / shard.file)

    def labels(self, split: str) -> pa.Table | None:
        """Return the labels of a split's clips, or None if the folder has no labels file."""
        return labels.of_folder(self._root, self.manifest, split)

    def expect(self, needs: Sequence[Shard]) -> None:
        """Do nothing: all shards are local."""

    def expect_later(self, needs: Sequence[Shard]) -> None:
        """Do nothing: all shards are local."""


def open_folder(root: Path) -> Folder:
    """Open a folder of shards, local or mirrored from an object store.

    Raises:
        DataError: there are no shards, or one is missing or truncated.
    """
    return mirror.open_mirror(root) if mirror.is_mirror(root) else LocalFolder(root)
