"""Manifest of a folder of shards: its contents, how it was made, and the checksum of every file.

It is written last, so a folder with a manifest is complete.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from htt import files
from htt.config import SIZE
from htt.errors import DataError, bullets, did_you_mean, shown
from htt.info import DataInfo

NAME = "manifest.json"
TRAIN, VAL, TEST = "train", "val", "test"
_SHOWN = 10
"""Number of faults of a manifest listed in an error message."""
SCHEMA = 3
"""Version of the shards' layout; incremented by changes that an older reader cannot read."""
_READABLE = (2, SCHEMA)
"""Versions that can be read; in version 2, clips have no groups."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_ENDING = ".arrow"


def _file_name(name: str) -> str:
    """Check the name of a file in a folder of shards: it comes from a store and is used as a path on this machine.

    A name has letters, digits, underscores and hyphens, then ".arrow". So it cannot be a folder, a drive, a hidden
    file, ".." or the manifest itself, and it holds no control characters.
    """
    _split_name(name.removesuffix(_ENDING) if name.endswith(_ENDING) else "")
    return name


def _split_name(name: str) -> str:
    """Check the name of a split, which is part of file names."""
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 100 letters, digits, '_' and '-'; that of a file ends in .arrow")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]
SplitName = Annotated[str, AfterValidator(_split_name)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
"""SHA-256 checksum; also used as a file name in the cache."""
Count = Annotated[int, Field(ge=0)]
Pixels = Annotated[int, Field(ge=1, le=SIZE)]


MOST_BYTES = 256_000_000
"""Largest size of a manifest; those of millions of clips are smaller."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Shard(_Entry):
    """Shard file of a split."""

    file: FileName
    """Name of the file in the folder."""
    bytes: Count
    sha256: Sha256
    clips: Count
    frames: Count


class Labels(_Entry):
    """File with the labels of all clips."""

    file: FileName
    """Name of the file in the folder."""
    bytes: Count
    sha256: Sha256


class Wanted(_Entry):
    """Clip as listed by its source, whether it could be read or not."""

    id: str
    """Identifier, unique in its split."""
    first: Count
    """Number of the first frame."""
    frames: Count
    """Number of frames the clip should have."""


class Encoding(_Entry):
    """Record of the making of the features in a folder."""

    encoder: str
    """Name of the encoder, as in ``model.backbone.name``."""
    weights: str
    """Weights of the encoder, as in ``model.backbone.weights``."""
    views: Count
    """Number of augmented copies of each training clip, in addition to the plain images."""
    width: Count
    """Number of values of a feature."""
    key: Sha256
    """Digest of everything that the features depend on: encoder, its weights, normalisation, views and frames."""


@dataclass(frozen=True)
class Coverage:
    """Completeness of a split in the shards."""

    split: str
    clips: int
    frames: int
    wanted_clips: int
    """Number of clips that the source lists for the split."""
    wanted_frames: int

    @property
    def complete(self) -> bool:
        """True if all clips and frames of the split are present."""
        return self.clips >= self.wanted_clips and self.frames >= self.wanted_frames

    def __str__(self) -> str:
        return (
            f"split '{self.split}' has {self.clips:,} of {self.wanted_clips:,} clips and {self.frames:,} of "
            f"{self.wanted_frames:,} frames"
        )

    @property
    def warning(self) -> str:
        """Sentence to be shown beside numbers, or "" if the split is complete."""
        if self.complete:
            return ""
        return (
            f"Incomplete data: {self}, so metrics do not cover the whole split. left_out.txt beside the shards lists "
            "what is missing."
        )


class Manifest(_Entry):
    """Contents of a folder of shards."""

    schema_version: int = SCHEMA
    source: str
    actions: list[str]
    objects: list[str]
    hands: Annotated[int, Field(ge=1, le=2)]
    width: Pixels
    """Width of the frames, px."""
    height: Pixels
    """Height of the frames, px."""
    frame_rate: Annotated[float, Field(gt=0, le=SIZE)] | None = None
    """Frames per second, or None for the usual rate of the source."""
    hand_types: list[str] | None = None
    """Names of hand types, or None if the shards do not hold them."""
    quality: int
    """Quality of the frames' JPEGs, or 0 if the shards hold poses without images."""
    pixels: str
    """Description of how the frames were made."""
    table_digest: str | None = None
    """Digest of the table of labels of own data, or None if the source has none that people edit."""
    splits: dict[SplitName, list[Shard]]
    wanted: dict[str, list[Wanted]]
    """All clips of each split of the source, in its order."""
    encoding: Encoding | None = None
    """How the features in the shards were made, or None if the shards hold frames."""
    labels: Labels | None = None
    """Labels file, or None if the folder was made before there was one; labels are then read from the shards."""

    @property
    def poses_only(self) -> bool:
        """True if the frames of the shards are poses without images."""
        return not self.quality

    @property
    def info(self) -> DataInfo:
        """Facts of the data set."""
        classes = tuple(self.actions), tuple(self.objects)
        return DataInfo(
            self.source,
            *classes,
            self.hands,
            self.width,
            self.height,
            self.frame_rate or 0.0,
            tuple(self.hand_types or ()),
        )

    def shards(self, split: str) -> list[Shard]:
        """Return the shards of a split.

        Raises:
            DataError: there is no such split.
        """
        self._check(split)
        return self.splits[split]

    def numbers(self, split: str) -> dict[str, range]:
        """Return the frame numbers that each clip of a split should have, by clip id, read or not.

        Raises:
            DataError: there is no such split.
        """
        self._check(split)
        return {clip.id: range(clip.first, clip.first + clip.frames) for clip in self.wanted.get(split, [])}

    def count(self, split: str) -> tuple[int, int]:
        """Return (clips, frames) of a split."""
        shards = self.shards(split)
        return sum(shard.clips for shard in shards), sum(shard.frames for shard in shards)

    def coverage(self, split: str) -> Coverage:
        """Return how much of a split is present, compared with what the source lists.

        Raises:
            DataError: there is no such split.
        """
        clips, frames = self.count(split)
        listed = self.wanted.get(split)
        if not listed:  # the manifest does not list the clips of the source
            return Coverage(split, clips, frames, clips, frames)
        return Coverage(split, clips, frames, len(listed), sum(clip.frames for clip in listed))

    def _check(self, split: str) -> None:
        if split not in self.splits:
            raise DataError(
                f"No split '{split}' in the data. Available: {', '.join(self.splits)}."
                f"{did_you_mean(split, list(self.splits))}"
            )


def read(root: Path, name: str = "data.root") -> Manifest:
    """Read the manifest of a folder; ``name`` is the folder's name in messages.

    Raises:
        DataError: there is no manifest, it cannot be read, or it has another version.
    """
    path = root / NAME
    if not path.is_file():
        raise DataError(
            f"Invalid {name}: expected a folder of shards, with a {NAME}; {root} {_fault_of(root)}. Make shards with: "
            f"python -m htt.data.convert --source h2o --root FOLDER_OF_THE_DATA_SET --out {root}"
        )
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _invalid_manifest(str(path), error) from error
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Manifest:
    """Parse the bytes of a manifest file.

    Args:
        content: bytes of the file.
        name: name of the file in messages.

    Raises:
        DataError: it is not a manifest, or has another version.
    """
    try:
        if len(content) > MOST_BYTES:
            raise ValueError(f"it is larger than {MOST_BYTES // 10**6} MB")
        text = content.decode("utf-8")
        _check_version(name, json.loads(text))  # first, because other versions have other fields
        return Manifest.model_validate_json(text)
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deeply, or other fields
        raise _invalid_manifest(name, error) from error


def write(root: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder atomically."""
    # Unknown to older versions, which refuse unknown fields.
    optional = ("encoding", "frame_rate", "hand_types", "table_digest")
    excluded = {name for name in optional if getattr(manifest, name) is None}
    files.write_text(root / NAME, manifest.model_dump_json(indent=2, exclude=excluded) + "\n")


def check_sizes(root: Path, manifest: Manifest) -> None:
    """Check that every file exists at its full size: fast, and finds interrupted copies.

    Raises:
        DataError: lists every file that is missing, has another size, or is a link out of the folder.
    """
    faults = []
    for shard in listed(manifest):
        path = root / shard.file
        if not path.resolve().is_relative_to(root.resolve()):
            faults.append(f"{path} is a link to a file outside its folder")
        elif not path.is_file():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != shard.bytes:
            faults.append(f"{path} has {path.stat().st_size} bytes, not {shard.bytes} as in its manifest")
    _raise(faults)


def verify(root: str | Path) -> Manifest:
    """Read every file of a folder and compare its checksum with the manifest.

    Raises:
        DataError: lists every file that is missing or has another size or checksum.
    """
    root = Path(root)
    manifest = read(root)
    check_sizes(root, manifest)
    check_sums(root, listed(manifest))
    return manifest


def check_sums(root: Path, chosen: Sequence[Shard | Labels]) -> None:
    """Read some files of a folder and compare their checksums with the manifest.

    Raises:
        DataError: lists every file with another checksum.
    """
    faults = []
    for each in chosen:
        digest = files.sha256(root / each.file)
        if digest != each.sha256:
            faults.append(f"{root / each.file} has sha256 {digest}, not {each.sha256} as in its manifest")
    _raise(faults)


def listed(manifest: Manifest) -> list[Shard | Labels]:
    """Return all files that have a checksum in the manifest."""
    shards: list[Shard | Labels] = [shard for shards in manifest.splits.values() for shard in shards]
    return [*shards, *([manifest.labels] if manifest.labels else [])]


def _raise(faults: list[str]) -> None:
    if faults:
        text = faults[0] if len(faults) == 1 else f"\n{bullets(faults, len(faults))}\n "
        raise DataError(
            f"Shards do not match their manifest: {text}. Copy them again from their source, or delete them with their "
            "manifest and convert the data again."
        )


def _invalid_manifest(name: str, error: Exception) -> DataError:
    if isinstance(error, ValidationError):
        faults = [f"{_path_of(each['loc'])}: {each['msg']}" for each in error.errors()[:_SHOWN]]
        more = error.error_count() - len(faults)
        reason = "; ".join([*faults, *([f"and {more:,} more"] if more else [])])
    else:
        reason = shown(" ".join(str(error).split()), quoted=False)
    return DataError(f"Invalid manifest {name}: {reason}. Convert the data again.")


def _path_of(location: Sequence[int | str]) -> str:
    """Return the location of a fault in the manifest as one printable line."""
    parts = (str(part)[:100] for part in location)
    return ".".join(part if part.isprintable() else ascii(part) for part in parts)


def _check_version(name: str, fields: object) -> None:
    version = fields.get("schema_version", SCHEMA) if isinstance(fields, dict) else SCHEMA
    if version not in _READABLE:
        known = " or ".join(map(str, _READABLE))
        raise DataError(f"Invalid manifest {name}: expected version {known}, got {version}. Convert the data again.")


def _fault_of(root: Path) -> str:
    if not root.exists():
        return "does not exist"
    return "has none" if root.is_dir() else "is a file"
