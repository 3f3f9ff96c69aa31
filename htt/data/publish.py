"""Copy a folder of shards to an object store, for machines that stream them.

::

    python -m htt.data.publish --shards FOLDER --to s3://bucket/h2o

The manifest is copied last, so a remote folder with a manifest is complete. Existing remote files are read and
compared: repeat the command to resume an interrupted copy or to replace damaged files.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from htt import console
from htt.data.shards import manifest
from htt.data.store.remote import BLOCK_BYTES, Remote, is_remote
from htt.errors import ConfigError, DataError


@dataclass
class Options(console.Options):
    """Copy a folder of shards to an object store; training then streams them from there."""

    shards: Path
    """Folder of converted shards."""
    to: str
    """Destination, such as s3://bucket/h2o; data.root of a training."""


def main(options: Options) -> None:
    """Copy the shards and print the next commands."""
    if not is_remote(options.to):
        raise ConfigError(f"--to must be a URI, such as s3://bucket/h2o; got {options.to}.")
    manifest.read(options.shards, "--shards")  # before any network access
    made = publish(options.shards, Remote(options.to, name="--to"))
    if made.encoding:
        console.out.print(f"\nUse them with: --set {shlex.quote(f'runtime.features={options.to}')}", markup=False)
        return
    data = f"--set data.source={made.source} --set {shlex.quote(f'data.root={options.to}')}"
    commands = (f"python cluster/launch.py --preset paper {data}", f"python tune/search.py --space paper {data}")
    console.out.print("\n".join(["", "Next:", *(f"  {command}" for command in commands)]), markup=False)


def publish(root: Path, remote: Remote) -> manifest.Manifest:
    """Copy a folder of shards, the manifest last.

    Raises:
        DataError: the shards do not match their manifest, or the destination holds other data.
        StorageError: the store refuses access or cannot be reached.
    """
    made = manifest.verify(root)
    content = (root / manifest.NAME).read_bytes()
    if remote.size(manifest.NAME) is not None and remote.read(manifest.NAME) != content:
        raise DataError(f"{remote.shown()} already holds other shards. Choose another folder, or delete those shards.")
    listed = manifest.listed(made)
    with console.Counting(f"Copying {made.source}", sum(each.bytes for each in listed), "bytes") as counting:
        for each in listed:
            if _is_there(remote, each):
                counting.advance(each.bytes, found=0)
            else:
                remote.write(each.file, _content(root / each.file, counting))
    remote.write(manifest.NAME, lambda: [content])
    return made


def _is_there(remote: Remote, wanted: manifest.Shard | manifest.Labels) -> bool:
    """Return True if the remote file exists and has the right size and checksum."""
    if remote.size(wanted.file) != wanted.bytes:
        return False
    digest = hashlib.sha256()
    for block in remote.blocks(wanted.file):
        digest.update(block)
    return digest.hexdigest() == wanted.sha256


def _content(path: Path, counting: console.Counting) -> Callable[[], Iterator[bytes]]:
    """Return a function that reads a file in blocks; a block that is sent again is not counted again."""
    counted = 0

    def blocks() -> Iterator[bytes]:
        nonlocal counted
        with path.open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block
                counting.advance(max(0, file.tell() - counted))
                counted = max(counted, file.tell())

    return blocks


if __name__ == "__main__":
    console.run(Options, main)
