"""Small shards for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.ipc
import pytest
import simplejpeg

from htt import files
from htt.data.shards import arrow, labels, manifest
from htt.data.sources import ClipRecord
from object_stores import CREDENTIALS, Store

WIDTH, HEIGHT = 32, 24
HAND_TYPES = ["rest", "reach", "side"]


@pytest.fixture(scope="session")
def make_record() -> Callable[..., ClipRecord]:
    """Return a function that makes a clip of noise."""
    return _record


@pytest.fixture(scope="session")
def write_shards() -> Callable[..., Path]:
    """Return a function that writes a folder of small shards."""
    return _write


def _record(index: int, frames: int, hands: int = 2) -> ClipRecord:
    random = np.random.default_rng(index)
    images = random.integers(0, 256, (frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    joints = random.uniform(-0.1, 0.1, (frames, 21 * hands, 3)).astype(np.float32)
    joints[..., 2] += 0.5
    return ClipRecord(
        id=f"clip-{index}",
        subject=f"subject{index % 3}",
        action=index % 5 - 1,
        object=index % 4,
        intrinsics=np.array([[40.0 + index, 0, 16], [0, 41, 12], [0, 0, 1]]),
        width=WIDTH,
        height=HEIGHT,
        frame_numbers=list(range(10, 10 + 3 * frames, 3)),
        jpegs=[simplejpeg.encode_jpeg(image, 92) for image in images],
        joints_m=joints,
        hand_valid=random.random((frames, hands)) < 0.7,
        group=f"recording{index // 2}",
    )


def _write(
    root: Path, splits: dict[str, list[ClipRecord]], limit_bytes: int = 20_000, *, labelled: bool = True
) -> Path:
    entries, written = {}, [clip for clips in splits.values() for clip in clips]
    for split, clips in splits.items():
        writer = arrow.ShardWriter(root, split, limit_bytes=limit_bytes)
        done = [writer.add(clip) for clip in clips] + [writer.close()]
        entries[split] = [shard for shard in done if shard]
    manifest.write(
        root,
        manifest.Manifest(
            source="noise",
            actions=["a", "b", "c", "d"],
            objects=["w", "x", "y", "z"],
            hands=2,
            width=WIDTH,
            height=HEIGHT,
            quality=92,
            pixels="noise",
            splits=entries,
            wanted={split: [_wanted(clip) for clip in clips] for split, clips in splits.items()},
            labels=labels.write(root, entries) if labelled else None,
            hand_types=HAND_TYPES if any(clip.hand_types is not None for clip in written) else None,
        ),
    )
    return root


@pytest.fixture(scope="session")
def drop_groups() -> Callable[[Path], None]:
    """Changes a folder of shards into one that was made before there were groups."""
    return _drop_groups


def _drop_groups(root: Path) -> None:
    made = manifest.read(root)
    splits = {split: [_without_groups(root, shard) for shard in shards] for split, shards in made.splits.items()}
    marked = _without_groups(root, made.labels) if made.labels else None
    manifest.write(root, made.model_copy(update={"schema_version": 2, "splits": splits, "labels": marked}))


def _without_groups(root: Path, entry: Any) -> Any:
    """Entry of a file of shards or labels, rewritten without the column."""
    path = root / entry.file
    table = pyarrow.ipc.open_file(path.read_bytes()).read_all().drop_columns("group")
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return entry.model_copy(update={"bytes": path.stat().st_size, "sha256": files.sha256(path)})


def _wanted(clip: ClipRecord) -> manifest.Wanted:
    """Return the frames that a clip has, or ten frames if it has none."""
    numbers = clip.frame_numbers or [0, 9]
    return manifest.Wanted(id=clip.id, first=min(numbers), frames=max(numbers) - min(numbers) + 1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """An S3 server of this machine, with an empty bucket."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in CREDENTIALS.items():
            environment.setenv(name, value)
        server = Store(tmp_path_factory.mktemp("store")).start()
        yield server
        server.kill()
