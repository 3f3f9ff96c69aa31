"""Preparation of a configuration's data: check, download or render its shards.

Shards in ``data.root`` are checked; the synthetic benchmark is rendered once and kept in the cache. For shards in an
object store, only the manifest and the labels are fetched here; the shards are downloaded when they are needed.

Checks: when a folder is first used on a machine, its files are hashed, and the contents of every clip are compared
with the manifest. Later, the ``stat`` of each file is compared with the recorded one (file identity, size and both
times), and files that differ are hashed again. So a shard damaged between two trials is found at a cost of a few
microseconds per shard. A shard that changes while a training reads it is not detected as such, but a frame that is no
longer a complete JPEG stops the training with an error that names the frame. Labels are compared with the manifest
whenever a split is opened.
"""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

from htt import console, files
from htt.config import Config
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.location import SHARD_BYTES, SYNTHETIC, cache_folder, shards_at, synthetic_key
from htt.data.shards import manifest
from htt.data.shards.manifest import Manifest
from htt.data.sources import open_source
from htt.data.store import mirror
from htt.errors import DataError
from htt.info import DataInfo


def prepare(config: Config, workers: int | None = None) -> Path:
    """Return the folder of a configuration's shards; render the synthetic benchmark if it is not in the cache.

    Args:
        config: configuration; data.root, data.source, data.synthetic and runtime are used.
        workers: number of clips rendered at once, or None for one per core.

    Raises:
        ConfigError: data.root is a URI that cannot be read.
        DataError: there are no shards, or they do not match their manifest.
        StorageError: the disk of the cache is full or not writable, or an object store does not answer.
    """
    if config.data.root is None:
        _check_can_render(config)
        return _rendered(config, workers)
    root, made = shards_at(config, config.data.root)
    if mirror.is_mirror(root):
        _warn_if_too_large(sum(shard.bytes for shards in made.splits.values() for shard in shards) / 1e9, config)
    else:
        _verify_once(root, made, cache_folder(config))
    return root


def _warn_if_too_large(total_gb: float, config: Config) -> None:
    """Warn if the size limit of the cache is smaller than the data."""
    cache_gb = config.runtime.cache_gb
    if cache_gb is not None and total_gb > cache_gb:
        console.err.print(
            f"The data have {total_gb:.3g} GB, but runtime.cache_gb is {cache_gb:.3g}: every epoch downloads the "
            "remaining shards again.",
            markup=False,
        )


def facts(config: Config) -> DataInfo:
    """Return the facts of a configuration's data without preparing them: renders nothing and reads no shard.

    Raises:
        DataError: there are no shards in the configured folder.
    """
    if config.data.root is not None:
        return shards_at(config, config.data.root)[1].info
    _check_can_render(config)
    size = config.data.synthetic
    return open_source(SYNTHETIC, config=config.data).info(size.width, size.height)


def _check_can_render(config: Config) -> None:
    source = config.data.source
    if source != SYNTHETIC:
        raise DataError(
            f"data.root is required with data.source {source}: a folder of shards. Make shards with: "
            f"python -m htt.data.convert --source {source} --root FOLDER_OF_THE_DATA_SET --out SHARDS, "
            "then --set data.root=SHARDS."
        )


def _rendered(config: Config, workers: int | None) -> Path:
    root = cache_folder(config) / f"synthetic-{synthetic_key(config)}"
    if not (root / manifest.NAME).is_file():
        size = config.data.synthetic
        making = Making(size.width, size.height, shard_bytes=SHARD_BYTES)
        source = open_source(SYNTHETIC, config=config.data)
        convert(source, root, making, workers=workers, title="Rendering the benchmark")
    try:
        _verify_once(root, manifest.read(root), cache_folder(config))
    except DataError as error:
        raise DataError(f"{error} The folder is only a cache: delete {root} to render it again.") from error
    return root


def _verify_once(root: Path, made: Manifest, cache: Path) -> None:
    """Verify the checksums of files that changed since the last check; one process at a time."""
    manifest.check_sizes(root, made)
    stamp = cache / "verified" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    state = _state(root, made)
    if _noted(stamp) == state:
        return
    from htt.data.loading.clips import open_split  # imports torch, which callers of ``facts`` do not need

    with files.locked(stamp.with_suffix(".lock")):
        noted, started = _noted(stamp), time.monotonic()
        manifest.check_sums(root, [each for each in manifest.listed(made) if noted.get(each.file) != state[each.file]])
        for split in (each for each, shards in made.splits.items() if shards):
            open_split(root, split).check_frames()
        files.write_text(stamp, json.dumps(state))
    if time.monotonic() - started > 1:
        console.err.print(f"Checked the shards in {root}: they match their manifest.", markup=False)


def _noted(stamp: Path) -> dict[str, list[int | str]]:
    """Return the recorded states of the verified files, or an empty dict if there is no valid record."""
    try:
        noted = json.loads(stamp.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _state(root: Path, made: Manifest) -> dict[str, list[int | str]]:
    return {each.file: [*files.state((root / each.file).stat()), each.sha256] for each in manifest.listed(made)}
