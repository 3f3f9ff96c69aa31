"""Where the data of a configuration are, and a key that is equal for equal data. Imports neither torch nor Ray."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from htt.config import Config
from htt.data.shards import manifest
from htt.data.shards.manifest import Manifest
from htt.data.sources import _images
from htt.data.store import mirror, remote
from htt.errors import DataError
from htt.scene.version import VERSION

SYNTHETIC = "synthetic"
SHARD_BYTES = 4 * 2**20
"""Size of rendered shards, B: small, so that an interrupted rendering has little to do again."""


def data_key(config: Config) -> str:
    """Equal for two configurations just when their data are: made of the shards' checksums, or of what is rendered.

    Raises:
        DataError: there are no shards where they should be.
    """
    if config.data.root is None:
        return f"{SYNTHETIC}-{synthetic_key(config)}"
    found = shards_at(config, config.data.root)[1]
    sums = {split: [shard.sha256 for shard in shards] for split, shards in found.splits.items()}
    return f"{found.source}-{hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:12]}"


def shards_at(config: Config, place: str) -> tuple[Path, Manifest]:
    """Return the folder of shards at a place, and its manifest.

    Raises:
        DataError: there are no shards, or they were made of another source than ``data.source``.
    """
    root = located(place, config)
    found = manifest.read(root)
    if found.source != config.data.source:
        raise DataError(
            f"data.source must be what the shards were made of; got {config.data.source}, and {place} holds "
            f"{found.source}. Add --set data.source={found.source}."
        )
    return root, found


def located(place: str, config: Config | None = None, name: str = "data.root") -> Path:
    """The folder of shards at a place: itself, or, for a URI, one in the cache that fills while it is read.

    Args:
        place: a folder or URI.
        config: its runtime says where the cache is, and how large; none: the default's.
        name: what messages call the place, as data.root or --data.

    Raises:
        ConfigError: it is a URI that nobody can read.
        DataError: there are no shards.
        StorageError: an object store does not answer.
    """
    config = config or Config()
    if not remote.is_remote(place):
        return Path(place.removeprefix("file://")).expanduser()
    limit_gb = config.runtime.cache_gb
    return mirror.mirror(place, cache_folder(config), None if limit_gb is None else int(limit_gb * 1e9), name)


def absolute(place: str) -> str:
    """A place that means the same from any folder; a URI does already."""
    return place if remote.is_remote(place) else str(Path(place.removeprefix("file://")).expanduser().resolve())


def cache_folder(config: Config) -> Path:
    """Where rendered data are kept: runtime.cache, or $HTT_CACHE, or ~/.cache/htt."""
    return Path(config.runtime.cache or os.environ.get("HTT_CACHE") or "~/.cache/htt").expanduser()


def synthetic_key(config: Config) -> str:
    """12 hexadecimal digits that change with whatever changes the rendered shards."""
    parts = [config.data.synthetic.model_dump(), VERSION, manifest.SCHEMA, _images.JPEG_QUALITY, SHARD_BYTES]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
