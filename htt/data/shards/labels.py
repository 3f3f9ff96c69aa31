"""Labels of all clips, in a file beside the shards: what a training needs before it reads any frame.

The file is small, so a data set in an object store can be opened, and its windows ordered, before its shards are
downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc

from htt import files
from htt.data.shards import arrow
from htt.data.shards.manifest import Labels, Manifest, Shard
from htt.errors import DataError

NAME = "labels.arrow"
COLUMNS = ("id", "subject", "group", "action", "object", "intrinsics")
"""Columns copied from the shards; of the frame numbers, only their count is kept."""
READ = (*COLUMNS, "frame_numbers")
"""Columns that ``of_reader`` needs."""
SCHEMA = pa.schema(
    [
        ("split", pa.string()),
        *((name, arrow.SCHEMA.field(name).type) for name in COLUMNS),
        ("frames", pa.int64()),
    ]
)
_BEFORE_GROUPS = SCHEMA.remove(SCHEMA.get_field_index("group"))

SHOWN = 10
"""Number of wrong labels listed in an error message."""


def of_reader(reader: pa.RecordBatchFileReader, name: str) -> pa.Table:
    """Return the labels of a shard's clips, without the split column.

    Raises:
        DataError: it is not a shard; ``name`` is its name in the message.
    """
    rows = (arrow.row(reader, index, name) for index in range(reader.num_record_batches))
    table = pa.Table.from_batches(rows, reader.schema)
    frames = pyarrow.compute.list_value_length(table["frame_numbers"]).cast(pa.int64())
    return _grouped(table).select(COLUMNS).append_column("frames", frames)


def write(root: Path, splits: Mapping[str, Sequence[Shard]]) -> Labels:
    """Write the labels of all shards of a folder; the same shards give the same bytes.

    Raises:
        DataError: a shard is not an Arrow file.
        StorageError: the disk is full or not writable.
    """
    path = root / NAME
    with (
        files.replacing(path) as temporary,
        pa.OSFile(str(temporary), "wb") as file,
        pyarrow.ipc.new_file(file, SCHEMA) as writer,
    ):
        for split, of_split in splits.items():
            for shard in of_split:
                path_of_shard = root / shard.file
                table = of_reader(arrow.open_shard(path_of_shard, READ), str(path_of_shard))
                named = table.add_column(0, "split", pa.array([split] * len(table), pa.string()))
                writer.write_table(named.cast(SCHEMA).combine_chunks())
    return Labels(file=NAME, bytes=path.stat().st_size, sha256=files.sha256(path))


def read(path: Path, split: str) -> pa.Table:
    """Return the labels of a split.

    Raises:
        DataError: it is not a labels file.
    """
    try:
        reader = pyarrow.ipc.open_file(pa.BufferReader(path.read_bytes()))
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
        schema = _BEFORE_GROUPS if reader.schema.equals(_BEFORE_GROUPS) else SCHEMA
        for batch in batches:
            arrow.check_arrow(batch, schema)
        table = _grouped(pa.Table.from_batches(batches, schema))
        return table.filter(pyarrow.compute.equal(table["split"], split))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"Invalid labels file {path}: {error}. Convert the data again.") from error


def _grouped(table: pa.Table) -> pa.Table:
    """Return the labels with groups; in labels made before there were groups, each clip is its own group."""
    return table if "group" in table.column_names else table.append_column("group", table["id"])


def check(table: pa.Table, made: Manifest, split: str, name: str) -> None:
    """Compare the labels of a split with the manifest, so that a wrong label is found before the training starts.

    Args:
        table: labels of the split.
        made: manifest of the folder.
        split: name of the split.
        name: name of the labels file in messages.

    Raises:
        DataError: a count differs, or a clip has an invalid action, object, camera, number of frames, group or id.
    """
    faults = [
        f"{actual:,} {unit}, but {count:,} in the manifest"
        for unit, actual, count in zip(
            ("clips", "frames"), (len(table), pyarrow.compute.sum(table["frames"]).as_py() or 0), made.count(split),
            strict=True,
        )
        if actual != count
    ]  # fmt: skip
    wanted, names = made.numbers(split), {"action": made.actions, "object": made.objects}
    seen = set[str]()
    for clip in table.to_pylist():
        wrong = [
            f"{kind} {clip[kind]} is outside -1 to {len(of_kind) - 1}"
            for kind, of_kind in names.items()
            if not -1 <= clip[kind] < len(of_kind)
        ]
        camera = np.array(clip["intrinsics"]).reshape(3, 3)
        if not (np.isfinite(camera).all() and (camera.diagonal() > 0).all() and (camera[2] == (0, 0, 1)).all()):
            wrong.append(f"intrinsics {clip['intrinsics']} are invalid")
        if clip["frames"] < 1 or clip["frames"] > len(wanted.get(clip["id"], range(clip["frames"]))):
            wrong.append(f"invalid number of frames {clip['frames']:,}")
        if not clip["group"]:
            wrong.append("its group is empty")
        if clip["id"] in seen:
            wrong.append("its id occurs twice")
        seen.add(clip["id"])
        faults += [f"clip {clip['id']}: {each}" for each in wrong]
    if faults:
        more = [f"and {len(faults) - SHOWN:,} more"] if len(faults) > SHOWN else []
        raise DataError(
            f"Labels do not match their manifest in {name}, split {split}: {'; '.join([*faults[:SHOWN], *more])}. "
            "Convert the data again."
        )


def of_folder(root: Path, made: Manifest, split: str) -> pa.Table | None:
    """Return the labels of a split of a folder of shards, or None if the folder has no labels file."""
    return read(root / made.labels.file, split) if made.labels else None
