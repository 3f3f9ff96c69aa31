"""Shards: Arrow IPC files of about 128 MB, one record batch per clip, read by memory map.

Any frame of any clip is found within microseconds: only the memory pages it lies on are read, and all processes of a
machine share them. Frames stay JPEGs until a batch needs them.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from htt import files
from htt.data.shards.manifest import Shard
from htt.data.sources import ClipRecord
from htt.errors import DataError

SHARD_BYTES = 128 * 2**20
"""Size of the frames at which a shard is closed, bytes."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("subject", pa.string()),
        ("group", pa.string()),
        ("action", pa.int32()),
        ("object", pa.int32()),
        ("intrinsics", pa.list_(pa.float64(), 9)),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("hands", pa.int32()),
        ("frame_numbers", pa.large_list(pa.int32())),
        ("jpegs", pa.large_list(pa.large_binary())),
        ("joints_m", pa.large_list(pa.float32())),  # [t j 3], flat
        ("hand_valid", pa.large_list(pa.uint8())),  # [t hands], flat
    ]
)
ENCODED = SCHEMA.set(
    SCHEMA.get_field_index("jpegs"),
    pa.field("features", pa.large_list(pa.float16())),  # [v t d], flat
).append(pa.field("shifts_px", pa.large_list(pa.float32())))  # [v 2], flat
"""Schema of a shard of features, which stand in place of the JPEGs."""
POSES = SCHEMA.remove(SCHEMA.get_field_index("jpegs"))
"""Schema of a shard of poses without images."""
HAND_TYPES = pa.field("hand_types", pa.large_list(pa.int8()))
"""Column [t hands], flat, of shards whose data name hand types; it is the last one."""
_KINDS = (SCHEMA, ENCODED, POSES)
_READABLE = (
    *_KINDS,
    *(each.append(HAND_TYPES) for each in _KINDS),
    *(each.remove(each.get_field_index("group")) for each in (SCHEMA, ENCODED)),
)
"""Schemas of shards; the last two are of shards made before there were groups."""


def to_batch(record: ClipRecord) -> pa.RecordBatch:
    """Return a clip as a record batch of one row."""
    row = {
        "id": record.id,
        "subject": record.subject,
        "group": record.group or record.id,
        "action": record.action,
        "object": record.object,
        "intrinsics": np.asarray(record.intrinsics, np.float64).ravel(),
        "width": record.width,
        "height": record.height,
        "hands": record.hand_valid.shape[1],
        "frame_numbers": np.asarray(record.frame_numbers, np.int32),
        "jpegs": record.jpegs,
        "features": record.encoded and record.encoded.features.ravel(),
        "shifts_px": record.encoded and record.encoded.shifts_px.ravel(),
        "joints_m": np.ascontiguousarray(record.joints_m, np.float32).ravel(),
        "hand_valid": np.ascontiguousarray(record.hand_valid).ravel().astype(np.uint8),
    }
    schema = ENCODED if record.encoded is not None else POSES if record.frame_numbers and not record.jpegs else SCHEMA
    if record.hand_types is not None:
        row["hand_types"] = np.ascontiguousarray(record.hand_types).ravel().astype(np.int8)
        schema = schema.append(HAND_TYPES)
    return pa.record_batch([pa.array([row[field.name]], field.type) for field in schema], schema=schema)


def open_shard(path: Path, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
    """Map a shard into memory; data are read from disk only when they are accessed.

    Raises:
        DataError: it is not an Arrow file.
    """
    try:
        return _reader(pa.memory_map(str(path)), columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _invalid_shard(str(path), error) from error


def of_map(mapped: mmap.mmap, name: str, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
    """Return a reader of a mapped shard; the map stays open as long as any data read from it are in use.

    Raises:
        DataError: it is not an Arrow file.
    """
    try:
        return _reader(pa.BufferReader(pa.py_buffer(mapped)), columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _invalid_shard(name, error) from error


def row(reader: pa.RecordBatchFileReader, index: int, name: str) -> pa.RecordBatch:
    """Return one clip of a shard, validated, because Arrow trusts the offsets in a file and would read beyond its end.

    Args:
        reader: reader of the shard.
        index: index of the clip in the shard.
        name: name of the shard in messages.

    Raises:
        DataError: the bytes do not form a clip.
    """
    try:
        batch = reader.get_batch(index)
        check_arrow(batch, reader.schema)
        if len(batch) != 1:
            raise ValueError(f"batch {index} has {len(batch)} rows, not 1")
    except (pa.ArrowException, OSError, ValueError, IndexError) as error:
        raise _invalid_shard(name, error) from error
    return batch


def check_arrow(batch: pa.RecordBatch, schema: pa.Schema) -> None:
    """Check all that readers rely on: types, offsets, text encoding, and the absence of nulls.

    Raises:
        ValueError: a check failed.
    """
    if not batch.schema.equals(schema):
        raise ValueError(f"it has the columns {batch.schema.names}, not {schema.names}, or other types")
    batch.validate(full=True)
    for column in batch.columns:
        if column.null_count or (pa.types.is_nested(column.type) and column.values.null_count):
            raise ValueError("a value is missing")


def knows_hands(path: Path) -> bool:
    """Return True if any frame of a shard has a known hand.

    Raises:
        DataError: it is not an Arrow file.
    """
    reader = open_shard(path, ("hand_valid",))
    rows = (row(reader, index, str(path)) for index in range(reader.num_record_batches))
    return any(1 in batch.column(0).values.to_numpy() for batch in rows)


def _reader(source: pa.NativeFile, columns: Sequence[str] | None) -> pa.RecordBatchFileReader:
    reader = pyarrow.ipc.open_file(source, options=pyarrow.ipc.IpcReadOptions(use_threads=False))
    names = reader.schema.names
    if not any(reader.schema.equals(each) for each in _READABLE):
        raise ValueError(f"it has the columns {names}, not {SCHEMA.names}, or other types")
    if columns is None:
        return reader
    included = [index for index, name in enumerate(names) if name in columns]
    return pyarrow.ipc.open_file(
        source, options=pyarrow.ipc.IpcReadOptions(included_fields=included, use_threads=False)
    )


def _invalid_shard(name: str, error: Exception) -> DataError:
    return DataError(f"Invalid shard {name}: {error}. Convert the data again.")


class ShardWriter:
    """Writer of a split's shards, in the order of the clips; the same clips give the same bytes."""

    def __init__(self, root: Path, split: str, first: int = 0, limit_bytes: int = SHARD_BYTES) -> None:
        self._root, self._split, self._number, self._limit = root, split, first, limit_bytes
        self._clips: list[pa.RecordBatch] = []
        self._bytes = self._frames = 0

    def add(self, record: ClipRecord) -> Shard | None:
        """Add a clip; return the shard it completes, or None if the shard is not full yet.

        Raises:
            StorageError: the disk is full or not writable.
        """
        self._clips.append(to_batch(record))
        self._frames += len(record.frame_numbers)
        self._bytes += record.encoded.features.nbytes if record.encoded else sum(len(jpeg) for jpeg in record.jpegs)
        self._bytes += 0 if record.encoded or record.jpegs else record.joints_m.nbytes
        return self.close() if self._bytes >= self._limit else None

    def close(self) -> Shard | None:
        """Write the clips added since the last shard; return the new shard, or None if there are no such clips."""
        if not self._clips:
            return None
        path = self._root / f"{self._split}-{self._number:05d}.arrow"
        with (
            files.replacing(path) as temporary,
            pa.OSFile(str(temporary), "wb") as file,
            pyarrow.ipc.new_file(file, self._clips[0].schema) as writer,
        ):
            for clip in self._clips:
                writer.write_batch(clip)
        shard = Shard(
            file=path.name,
            bytes=path.stat().st_size,
            sha256=files.sha256(path),
            clips=len(self._clips),
            frames=self._frames,
        )
        self._clips, self._bytes, self._frames = [], 0, 0
        self._number += 1
        return shard
