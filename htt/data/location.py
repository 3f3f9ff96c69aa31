"""Location of a configuration's data, and a key that identifies the data. Imports neither torch nor Ray."""

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
"""Size of rendered shards, bytes; small, so that little is lost when rendering is interrupted."""


def data_key(config: Config) -> str:
    """Return a key that is equal for two configurations if and only if their data are equal.

    The key is made of the checksums of the shards, or of everything that affects the rendered shards.

    Raises:
        DataError: there are no shards in the configured folder.
    """
    if config.data.root is None:
        return f"{SYNTHETIC}-{synthetic_key(config)}"
    made = shards_at(config, config.data.root)[1]
    sums = {split: [shard.sha256 for shard in shards] for split, shards in made.splits.items()}
    return f"{made.source}-{hashlib.sha256(json.dumps(sums, sort_keys=True).encode()).hexdigest()[:12]}"


def preparation_key(config: Config) -> str:
    """Return a key that is equal for two configurations whose shards, of frames or of features, are prepared alike."""
    if not config.on_features:
        return data_key(config)
    parts = [config.model.backbone.model_dump(mode="json"), config.data.augment.model_dump(mode="json")]
    return f"{data_key(config)} {json.dumps(parts, sort_keys=True)}"


def shards_at(config: Config, path: str) -> tuple[Path, Manifest]:
    """Return the folder of shards at a path or URI, and its manifest.

    Raises:
        DataError: there are no shards, or they were made from another source than ``data.source``.
    """
    root = local_folder(path, config)
    made = manifest.read(root)
    if made.encoding is not None:
        raise DataError(
            f"data.root must be a folder of frames; {path} holds features. Name the frames they were made of in "
            "data.root, and the features in runtime.features."
        )
    if made.poses_only and config.model.backbone.reads_images:
        raise DataError(
            f"{path} holds poses without images, and the image encoder {config.model.backbone.name} needs images. "
            "Train block A alone on the poses (--space poses or --preset poses), or convert the data without "
            "--poses-only."
        )
    if made.source != config.data.source:
        raise DataError(
            f"data.source does not match the shards: got {config.data.source}, but {path} holds {made.source}. "
            f"Add --set data.source={made.source}."
        )
    return root, made


def local_folder(path: str, config: Config | None = None, name: str = "data.root") -> Path:
    """Return the local folder of shards at a path or URI; for a URI, a cache folder that is filled while it is read.

    Args:
        path: folder or URI.
        config: configuration whose runtime gives the location and size of the cache, or None for the defaults.
        name: name of ``path`` in error messages, such as data.root or --data.

    Raises:
        ConfigError: the URI cannot be read.
        DataError: there are no shards.
        StorageError: an object store does not answer.
    """
    config = config or Config()
    if not remote.is_remote(path):
        return Path(path.removeprefix("file://")).expanduser()
    limit_gb = config.runtime.cache_gb
    return mirror.mirror(path, cache_folder(config), None if limit_gb is None else int(limit_gb * 1e9), name)


def absolute(path: str) -> str:
    """Return a path or URI that is valid from any working directory."""
    return path if remote.is_remote(path) else str(Path(path.removeprefix("file://")).expanduser().resolve())


def fields_of(path: str, name: str = "--data") -> dict[str, str]:
    """Return the fields of a configuration that name the shards at a path or URI; arguments as of ``local_folder``."""
    root = absolute(path)
    return {"data.root": root, "data.source": manifest.read(local_folder(root, name=name), name).source}


def cache_folder(config: Config) -> Path:
    """Return the folder of the data cache: runtime.cache, or $HTT_CACHE, or ~/.cache/htt."""
    return Path(config.runtime.cache or os.environ.get("HTT_CACHE") or "~/.cache/htt").expanduser()


def synthetic_key(config: Config) -> str:
    """Return 12 hexadecimal digits that change with everything that affects the rendered shards."""
    parts = [config.data.synthetic.model_dump(), VERSION, manifest.SCHEMA, _images.JPEG_QUALITY, SHARD_BYTES]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
