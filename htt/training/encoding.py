"""Features of a frozen encoder, computed once for all trainings: shards of features made from shards of frames.

They are ordinary shards (Arrow IPC files with a manifest and checksums, mapped into memory and streamed from object
stores), with float16 features in place of JPEGs. A training on them gives the same numbers as one that computes the
features anew, because a frozen encoder rounds its features to float16 in both cases.

``Encoding.key`` is a digest of everything the features depend on, so stale features are never used.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from htt.config import Config, from_plain
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import Clips, open_split
from htt.data.loading.loader import Assembler, view_seed
from htt.data.loading.windows import cut
from htt.data.location import cache_folder, data_key, local_folder
from htt.data.prepare import prepare, verify_once
from htt.data.shards import manifest
from htt.data.shards.manifest import TRAIN, Encoding, Manifest, Wanted
from htt.data.sources import ClipKey, ClipRecord, Encoded, Problem
from htt.data.store import mirror
from htt.errors import DataError, StorageError
from htt.group import best_device
from htt.info import DataInfo
from htt.model.features import FrameFeatures
from htt.text import plural
from htt.training.augment import augment, view_shift_px

VERSION = 1
"""Version of the computation of features; incremented by changes that give other features."""
SHARD_BYTES = 32 * 2**20
"""Size at which a shard of features is closed, bytes; small, so that little is lost when encoding is interrupted."""
BATCH = 64
"""Images encoded at once."""


def data_folder(config: Config, workers: int | None = None) -> Path:
    """Return the folder of shards that a training reads: frames, or features of a frozen encoder.

    Args:
        config: configuration of the training.
        workers: clips rendered or encoded at once, or None for one per core.

    Raises:
        DataError, ConfigError, StorageError: as ``prepare`` and ``encoded`` raise.
    """
    return encoded(config, workers) if config.on_features else prepare(config, workers)


def encoded(config: Config, workers: int | None = None, out: Path | None = None) -> Path:
    """Return the folder of a configuration's features; make it in the cache if it does not exist.

    Args:
        config: configuration with a frozen encoder; ``runtime.features`` names features made earlier.
        workers: clips encoded at once, or None for one per core; with GPUs, None means one per GPU.
        out: folder for the features, or None for the one in the cache.

    Raises:
        CheckpointError: the weights of the encoder cannot be loaded.
        DataError: there are no frames, or ``runtime.features`` holds features of other frames or of another encoder.
        StorageError: the disk has no room for the features.
    """
    wanted = encoding(config)
    if config.runtime.features is not None and out is None:
        return _made_earlier(config, wanted)
    root = out or cache_folder(config) / f"features-{wanted.key[:16]}"
    if not (root / manifest.NAME).is_file():
        frames = prepare(config, workers)
        source = EncodedFrames(frames, config, wanted)
        _check_room(root, manifest.read(frames), wanted)
        info = source.info()
        making = Making(info.width, info.height, shard_bytes=SHARD_BYTES)
        convert(source, root, making, workers=workers, title="Encoding the images", encoding=wanted, gpus=True)
    return _checked(root, str(root), config, wanted)


def encoding(config: Config) -> Encoding:
    """Return how the features of a configuration are made.

    Raises:
        CheckpointError: the weights of the encoder cannot be loaded.
        DataError: there are no frames.
    """
    backbone, views = config.model.backbone, config.data.augment.views or 0
    features = _features(backbone.model_dump_json())
    digest = hashlib.sha256()
    for name, tensor in sorted(features.backbone.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    parts = {
        "version": VERSION,
        "data": data_key(config),
        "backbone": backbone.model_dump(mode="json", exclude={"weights", "recompute"}),
        "weights": digest.hexdigest(),
        "augment": config.data.augment.model_dump(mode="json") if views else None,
    }
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return Encoding(
        encoder=backbone.name,
        weights=str(backbone.weights),
        views=views,
        width=int(features.backbone.width),  # type: ignore[arg-type]
        key=key,
    )


@functools.lru_cache(maxsize=1)
def _features(backbone: str) -> FrameFeatures:
    """Return the encoder of a ``BackboneConfig`` in JSON."""
    config: Config = from_plain({"model": {"backbone": json.loads(backbone)}})
    with torch.random.fork_rng(devices=[]):
        return FrameFeatures(config.model.backbone, 1).eval().requires_grad_(False)


@functools.lru_cache(maxsize=1)
def _encoder(backbone: str) -> FrameFeatures:
    """Return the encoder of a ``BackboneConfig`` in JSON on this process's device; kept for the clips that follow."""
    return _features(backbone).to(best_device())


def _made_earlier(config: Config, wanted: Encoding) -> Path:
    """Return the folder ``runtime.features`` if it holds the wanted features."""
    path = str(config.runtime.features)
    return _checked(local_folder(path, config, name="runtime.features"), path, config, wanted)


def _checked(root: Path, name: str, config: Config, wanted: Encoding) -> Path:
    """Return a folder of features after a check of its key and, if it is local, of its checksums.

    Raises:
        DataError: it holds frames, features of other frames or of another encoder, or damaged shards.
    """
    made = manifest.read(root, name)
    if made.encoding is None:
        raise DataError(f"Expected a folder of features; {name} holds frames. Choose another folder.")
    if made.encoding.key != wanted.key:
        raise DataError(
            f"Cannot use the features in {name}: they are of {_words(made.encoding)}, expected {_words(wanted)}. If "
            "these are equal, the weights, the augmentation or the frames differ. Encode again into another folder: "
            "python -m htt.data.encode."
        )
    if not mirror.is_mirror(root):
        verify_once(root, made, cache_folder(config))
    return root


def _words(made: Encoding) -> str:
    return f"{made.encoder} with weights {made.weights}, {plural(made.views, 'augmented view')} (key {made.key[:12]})"


def _check_room(root: Path, frames: Manifest, wanted: Encoding) -> None:
    """Raise a ``StorageError`` if the disk has no room for the features."""
    counts = {split: frames.count(split)[1] * (1 + wanted.views * (split == TRAIN)) for split in frames.splits}
    needed = sum(counts.values()) * wanted.width * 2
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free + sum(shard.stat().st_size for shard in root.glob("*.arrow")):  # those made before an interruption
        raise StorageError(
            f"No room for the features: {sum(counts.values()):,} images x {wanted.width} values x 2 bytes are "
            f"{needed / 1e9:.1f} GB; {there} has {free / 1e9:.1f} GB free. Make room, set runtime.cache to a folder "
            "on a larger disk, or lower data.augment.views."
        )


@dataclass(frozen=True)
class EncodedFrames:
    """Source whose clips are those of shards of frames, encoded; see ``htt.data.sources.Source``."""

    root: Path
    """Folder of the frames."""
    config: Config
    made: Encoding

    @property
    def name(self) -> str:
        """Name of the source that the frames come from."""
        return manifest.read(self.root).source

    @property
    def pixels(self) -> str:
        """Description of the features, with their key."""
        return f"features: {_words(self.made)}"

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(manifest.read(self.root).splits)

    def info(self, width: int = 0, height: int = 0) -> DataInfo:  # noqa: ARG002 - the images have their size already
        """Return the facts of the data set."""
        return manifest.read(self.root).info

    def clips(self, split: str) -> list[ClipKey]:
        """Return the clips of a split, including those whose frames could not be read."""
        found = manifest.read(self.root)
        clips = open_split(self.root, split)
        index = {clip: place for place, clip in enumerate(clips.ids)}
        listed = found.wanted.get(split) or [_as_listed(clips, place) for place in range(len(clips))]
        return [ClipKey(each.id, each.frames, (split, index.get(each.id)), each.first) for each in listed]

    def read(self, key: ClipKey, width: int, height: int, quality: int) -> tuple[ClipRecord | None, list[Problem]]:  # noqa: ARG002
        """Encode a clip: its plain images, and in the training split also its augmented copies."""
        split, index = key.entry
        if index is None:
            return None, [Problem(key.id, "is not in the shards of frames", "clip left out", frames=key.frames)]
        assembler = _assembler(self.root, split)
        return replace(assembler.clips[index], jpegs=[], encoded=self._encode(assembler, index, split)), []

    def differences(self) -> list[str]:
        """Return no difference: the clips are those of the shards of frames."""
        return []

    @torch.inference_mode()
    def _encode(self, assembler: Assembler, index: int, split: str) -> Encoded:
        views = self.made.views if split == TRAIN else 0
        batch = assembler([index])
        encoder = _encoder(self.config.model.backbone.model_dump_json())
        features, shifts_px = [], []
        for copy in range(views + 1):
            seed, how = view_seed(assembler.clips.ids[index], copy), self.config.data.augment
            view = replace(batch, view=torch.tensor([seed]))
            seen = augment(view, how, torch.Generator()) if copy else batch
            parts = [
                encoder.encode(images.to(best_device())).half().cpu() for images in torch.split(seen.frames, BATCH)
            ]
            features.append(torch.cat(parts).numpy())
            shifts_px.append(view_shift_px(seed, how, batch.frames.shape[-1]) if copy else (0, 0))
        return Encoded(np.stack(features), np.array(shifts_px, np.float32))


def _as_listed(clips: Clips, index: int) -> Wanted:
    """Return a clip as its source would list it, for shards whose manifest does not list the clips."""
    numbers = clips.frame_numbers(index)
    return Wanted(id=clips.ids[index], first=int(numbers[0]), frames=int(numbers[-1] - numbers[0]) + 1)


def _assembler(root: Path, split: str) -> Assembler:
    return _opened(root, split, (root / manifest.NAME).stat().st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _opened(root: Path, split: str, changed: int) -> Assembler:  # noqa: ARG001 - part of the cache's key
    """Return batches of whole clips: one window per clip, with all its frames."""
    clips = open_split(root, split)
    counts = clips.frame_counts
    return Assembler(clips, cut(counts, length=int(counts.max()), spacing=1, starts=1))
