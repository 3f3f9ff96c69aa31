"""The manifest of a folder of shards: what is in it, how it was made, and the checksum of every file.

It is written last, so a folder with a manifest is complete.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from htt.data import files
from htt.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from htt.batch import DataInfo

NAME = "manifest.json"
SCHEMA = 1
"""Version of the shards' layout; a change an older reader cannot read raises it."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Shard(_Entry):
    """One file of a split."""

    file: str
    """Its name in the folder."""
    bytes: int
    sha256: str
    clips: int
    frames: int


class Manifest(_Entry):
    """What a folder of shards holds."""

    schema_version: int = SCHEMA
    source: str
    actions: list[str]
    objects: list[str]
    hands: int
    width: int
    """px."""
    height: int
    """px."""
    quality: int
    """Of the frames' JPEGs."""
    pixels: str
    """How the frames were made."""
    splits: dict[str, list[Shard]]

    @property
    def info(self) -> DataInfo:
        """The facts of the data set."""
        from htt.batch import DataInfo  # a process that only converts needs no torch

        return DataInfo(self.source, tuple(self.actions), tuple(self.objects), self.hands, self.width, self.height)

    def shards(self, split: str) -> list[Shard]:
        """The files of a split.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.splits:
            raise DataError(
                f"A split must be one the data have; got '{split}'. There are: {', '.join(self.splits)}."
                f"{did_you_mean(split, list(self.splits))}"
            )
        return self.splits[split]

    def count(self, split: str) -> tuple[int, int]:
        """(clips, frames) of a split."""
        shards = self.shards(split)
        return sum(shard.clips for shard in shards), sum(shard.frames for shard in shards)


def read(root: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        DataError: there is none, it cannot be read, or it is of another version.
    """
    path = root / NAME
    if not path.is_file():
        raise DataError(
            f"data.root must be a folder of shards, with a {NAME}; {root} {_what_is_there(root)}. Make shards with: "
            f"python -m htt.data.convert --source h2o --root FOLDER_OF_THE_DATA_SET --out {root}"
        )
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path} must be the manifest of a folder of shards; {reason}. Convert the data again."
        ) from error
    if manifest.schema_version != SCHEMA:
        raise DataError(
            f"{path} must be of version {SCHEMA}, which this program reads; it is of {manifest.schema_version}. "
            "Convert the data again."
        )
    return manifest


def write(root: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder, whole or not at all."""
    with files.replacing(root / NAME) as path:
        path.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def check_sizes(root: Path, manifest: Manifest) -> None:
    """Look whether every shard is there, at its full size: costs nothing, and finds interrupted copies.

    Raises:
        DataError: lists every shard that is missing or of another size.
    """
    faults = []
    for shard in _all_shards(manifest):
        path = root / shard.file
        if not path.is_file():
            faults.append(f"{path} is missing")
        elif path.stat().st_size != shard.bytes:
            faults.append(f"{path} has {path.stat().st_size} bytes, not the {shard.bytes} of its manifest")
    _raise(faults)


def verify(root: str | Path) -> Manifest:
    """Read every shard of a folder and compare its checksum with the manifest's.

    Raises:
        DataError: lists every shard that is missing, of another size or with another checksum.
    """
    root = Path(root)
    manifest = read(root)
    check_sizes(root, manifest)
    faults = []
    for shard in _all_shards(manifest):
        found = files.sha256(root / shard.file)
        if found != shard.sha256:
            faults.append(f"{root / shard.file} has the sha256 {found}, its manifest says {shard.sha256}")
    _raise(faults)
    return manifest


def _all_shards(manifest: Manifest) -> list[Shard]:
    return [shard for shards in manifest.splits.values() for shard in shards]


def _raise(faults: list[str]) -> None:
    if faults:
        listed = faults[0] if len(faults) == 1 else "\n" + "\n".join(f"  - {fault}" for fault in faults) + "\n "
        raise DataError(
            f"Shards must be what their manifest promises; {listed}. Copy them again from where they came, or delete "
            "them with their manifest and convert the data again."
        )


def _what_is_there(root: Path) -> str:
    if not root.exists():
        return "does not exist"
    return "has none" if root.is_dir() else "is a file"
