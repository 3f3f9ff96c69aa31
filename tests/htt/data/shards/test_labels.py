"""The labels of all clips, beside the shards."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from htt import files
from htt.data.loading.clips import open_split
from htt.data.shards import labels, manifest
from htt.data.sources import ClipRecord
from htt.errors import DataError


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory,
    make_record: Callable[..., ClipRecord],
    write_shards: Callable[..., Path],
) -> Path:
    records = [make_record(index, 3 + index) for index in range(5)]
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": records[:3], "val": records[3:]})


def test_read_returns_labels_of_one_split(root: Path, make_record: Callable[..., ClipRecord]) -> None:
    table = labels.read(root / labels.NAME, "val")
    records = [make_record(index, 3 + index) for index in (3, 4)]
    assert table["id"].to_pylist() == ["clip-3", "clip-4"]
    assert table["frames"].to_pylist() == [6, 7]
    for name in ("subject", "group", "action", "object"):
        assert table[name].to_pylist() == [getattr(record, name) for record in records]
    np.testing.assert_array_equal(
        np.array(table["intrinsics"].to_pylist()).reshape(-1, 3, 3), [record.intrinsics for record in records]
    )
    assert len(labels.read(root / labels.NAME, "none")) == 0


def test_write_is_reproducible_from_shards(root: Path) -> None:
    made = manifest.read(root)
    assert made.labels == labels.write(root, made.splits)
    assert made.labels.sha256 == files.sha256(root / labels.NAME)


def test_groups_that_differ_from_the_shards_are_found(
    root: Path, tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    records = [dataclasses.replace(make_record(index, 3 + index), group="other") for index in range(5)]
    other = write_shards(tmp_path, {"train": records[:3], "val": records[3:]})
    (other / labels.NAME).write_bytes((root / labels.NAME).read_bytes())
    manifest.write(other, manifest.read(other).model_copy(update={"labels": manifest.read(root).labels}))
    with pytest.raises(DataError, match=r"Clip clip-0 in .* its group is other, not recording0"):
        open_split(other, "train").check_frames()


def test_open_split_refuses_invalid_or_missing_labels_file(root: Path, tmp_path: Path) -> None:
    for path in root.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / labels.NAME).write_bytes(b"x" * (tmp_path / labels.NAME).stat().st_size)
    with pytest.raises(DataError, match=r"Invalid labels file .*labels\.arrow: .*Convert the data"):
        open_split(tmp_path, "train")
    (tmp_path / labels.NAME).unlink()
    with pytest.raises(DataError, match=r"labels\.arrow is missing"):
        open_split(tmp_path, "train")
