"""The labels of all clips, beside the shards: what a training must know before it has seen a single frame.

It is small, so a data set in an object store can be opened, and its windows ordered, before its shards are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from htt.data import files, shards
from htt.data.manifest import Labels, Manifest, Shard
from htt.errors import DataError

NAME = "labels.arrow"
COLUMNS = ("id", "subject", "action", "object", "intrinsics")
"""What is taken over from the shards; of the JPEGs, only how many there are."""
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        *((name, shards.SCHEMA.field(name).type) for name in COLUMNS),
        ("frames", pa.int64()),
    ]
)


def of_reader(reader: pa.RecordBatchFileReader) -> pa.Table:
    """The labels of a shard's clips, without their split."""
    table = reader.read_all()
    frames = pyarrow.compute.list_value_length(table["jpegs"]).cast(pa.int64())
    return table.select(COLUMNS).append_column("frames", frames)


def write(root: Path, splits: Mapping[str, Sequence[Shard]]) -> Labels:
    """Gather the labels of all shards of a folder; the same shards give the same bytes.

    Raises:
        DataError: a shard is no Arrow file.
        StorageError: the disk is full, or may not be written to.
    """
    path = root / NAME
    with (
        files.replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pyarrow.ipc.new_file(file, SCHEMA) as writer,
    ):
        for split, of_split in splits.items():
            for shard in of_split:
                table = of_reader(shards.open_shard(root / shard.file, (*COLUMNS, "jpegs")))
                named = table.add_column(0, "split", pa.array([split] * len(table), pa.string()))
                writer.write_table(named.cast(SCHEMA).combine_chunks())
    return Labels(file=NAME, bytes=path.stat().st_size, sha256=files.sha256(path))


def read(path: Path, split: str) -> pa.Table:
    """The labels of a split.

    Raises:
        DataError: it is no file of labels.
    """
    try:
        with pa.memory_map(str(path)) as file:
            table = pyarrow.ipc.open_file(file).read_all()
        return table.filter(pyarrow.compute.equal(table["split"], split))
    except (pa.ArrowInvalid, OSError, KeyError) as error:
        told = f"{path} must hold the labels of clips; it does not: {error}. Convert the data again."
        raise DataError(told) from error


def of_folder(root: Path, made: Manifest, split: str) -> pa.Table | None:
    """The labels of a split of a folder of shards; None if it was made without."""
    return read(root / made.labels.file, split) if made.labels else None
