"""Data in an object store: the same batches as from a folder, before all shards are downloaded."""

import hashlib
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from htt.batch import Batch
from htt.config import Config, override
from htt.data.loading.clips import Clips, open_split
from htt.data.loading.loader import EvaluationLoader, TrainingLoader
from htt.data.location import data_key
from htt.data.prepare import facts, prepare
from htt.data.publish import publish
from htt.data.shards import manifest
from htt.data.shards.manifest import Shard
from htt.data.sources import ClipRecord
from htt.data.store import cache as caches
from htt.data.store import mirror, prefetch
from htt.data.store.mirror import MirroredFolder, open_mirror
from htt.data.store.prefetch import Prefetcher
from htt.data.store.remote import Remote
from htt.errors import DataError, StorageError
from object_stores import Store

COUNTS = [7, 12, 5, 9, 30, 4, 11, 8]
VALUES = {"data.source": "noise", "model.pose.window": 2, "model.action.length": 4, "train.batch_size": 2}


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory,
    make_record: Callable[..., ClipRecord],
    write_shards: Callable[..., Path],
) -> Path:
    records = [make_record(index, count) for index, count in enumerate(COUNTS)]
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": records[:6], "val": records[6:]})


@pytest.fixture(scope="module")
def uri(root: Path, store: Store) -> str:
    publish(root, Remote(store.uri("noise")))
    return store.uri("noise")


def settings(place: str | Path, cache: Path, **more: object) -> Config:
    return override(Config(), {**VALUES, "data.root": str(place), "runtime.cache": str(cache), **more})


def assert_same(one: Iterator[Batch], other: Iterator[Batch]) -> None:
    for left, right in zip(one, other, strict=True):
        assert left.tensors().keys() == right.tensors().keys()
        for name, values in left.tensors().items():
            assert torch.equal(values, right.tensors()[name]), name


def shards_there(cache: Path) -> list[Path]:
    return sorted((cache / caches.FOLDER).glob("*.arrow"))


def test_mirror_gives_same_batches_as_a_folder(root: Path, uri: str, tmp_path: Path) -> None:
    local, remote = (settings(place, tmp_path) for place in (root, uri))
    here, there = prepare(local), prepare(remote)
    assert shards_there(tmp_path) == []
    for split in ("train", "val"):
        one, other = open_split(here, split), open_split(there, split)
        assert one.ids == other.ids
        assert (one.frame_counts == other.frame_counts).all()
        assert_same(iter(EvaluationLoader(one, local)), iter(EvaluationLoader(other, remote)))
        if split == "train":
            loaders = TrainingLoader(one, local), TrainingLoader(other, remote)
            for epoch, start in ((0, 0), (1, 2)):
                assert_same(*(loader.epoch(epoch, start) for loader in loaders))
    open_mirror(there).prefetcher.wait()
    assert len(shards_there(tmp_path)) == sum(map(len, manifest.read(root).splits.values()))


def test_mirror_gives_same_batches_in_loader_processes(root: Path, uri: str, tmp_path: Path) -> None:
    local, remote = (settings(place, tmp_path) for place in (root, uri))
    several = override(remote, {"runtime.loader_workers": 1})
    expected = TrainingLoader(open_split(root, "train"), local).epoch(0)
    assert_same(TrainingLoader(open_split(prepare(remote), "train"), several).epoch(0), expected)


def test_mirror_downloads_every_shard_once(root: Path, store: Store, tmp_path: Path) -> None:
    publish(root, Remote(store.uri("once-a-node")))
    config = settings(store.uri("once-a-node"), tmp_path)
    for _ in range(2):
        clips = open_split(prepare(config), "train")
        for epoch in range(2):
            list(TrainingLoader(clips, config).epoch(epoch))
    files = [shard.file for shard in manifest.read(root).shards("train")]
    assert [store.gets(f"once-a-node/{file}") for file in files] == [1] * len(files)


def test_facts_need_no_shard(root: Path, uri: str, tmp_path: Path) -> None:
    config = settings(uri, tmp_path)
    assert facts(config) == manifest.read(root).info
    assert data_key(config) == data_key(settings(root, tmp_path))
    clips: Clips = pickle.loads(pickle.dumps(open_split(prepare(config), "val")))
    assert clips.ids == ["clip-6", "clip-7"]
    assert shards_there(tmp_path) == []


def test_first_batch_waits_for_its_own_shards_only(
    root: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(uri, tmp_path)
    clips = open_split(prepare(config), "train")
    loader = TrainingLoader(clips, config)
    first = next(TrainingLoader(open_split(root, "train"), config).epoch(0))
    needed = {clips._shards[clips._rows[clip][0]].file for clip in first.clip.tolist()}
    others = {shard.file for shard in clips._shards} - needed
    assert others
    gate, plain = threading.Event(), Remote.blocks

    def held_up(remote: Remote, file: str, since: float | None = None) -> Iterator[bytes]:
        if file in others:
            gate.wait(60)
        return plain(remote, file, since)

    monkeypatch.setattr(Remote, "blocks", held_up)
    epoch = loader.epoch(0)
    assert_same(iter([next(epoch)]), iter([first]))
    assert not gate.is_set()
    gate.set()
    assert len(list(epoch)) == loader.steps_per_epoch - 1


def size(path: Path) -> int:
    """Return the bytes of a file that may be removed at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_mirror_respects_and_reports_a_small_cache(
    root: Path, uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    total = sum(shard.bytes for shard in manifest.read(root).shards("train"))
    config = settings(uri, tmp_path, **{"runtime.cache_gb": total / 2 / 1e9})
    clips, local = open_split(prepare(config), "train"), open_split(root, "train")
    remote_steps, local_steps = (TrainingLoader(each, config).epoch(0) for each in (clips, local))
    for batch, expected in zip(remote_steps, local_steps, strict=True):
        assert_same(iter([batch]), iter([expected]))
        assert sum(map(size, shards_there(tmp_path))) < total  # those in use may exceed the limit
    open_mirror(prepare(config)).prefetcher.wait()
    assert sum(map(size, shards_there(tmp_path))) < total
    assert "every epoch downloads the remaining shards again." in " ".join(capsys.readouterr().err.split())


def test_mirror_names_damaged_shard_in_the_store(root: Path, store: Store, tmp_path: Path) -> None:
    place = Remote(store.uri("spoilt"))
    publish(root, place)
    file = manifest.read(root).shards("val")[0].file
    data = bytearray((root / file).read_bytes())
    data[-700] ^= 1
    place.write(file, lambda: [bytes(data)])
    before = store.gets(f"spoilt/{file}")
    clips = open_split(prepare(settings(store.uri("spoilt"), tmp_path)), "val")
    with pytest.raises(DataError, match=rf"Wrong checksum of s3://bucket/spoilt/{file} after two downloads"):
        clips.decode(0, [0])
    assert store.gets(f"spoilt/{file}") == before + 2
    publish(root, place)  # replaces the damaged shard
    assert clips.decode(0, [0]).shape[0] == 1


def test_mirror_names_damaged_labels_in_the_store(root: Path, store: Store, tmp_path: Path) -> None:
    place = Remote(store.uri("labels"))
    publish(root, place)
    place.write("labels.arrow", lambda: [b"x" * 100])
    with pytest.raises(DataError, match=r"Wrong checksum of s3://bucket/labels/labels\.arrow"):
        prepare(settings(store.uri("labels"), tmp_path))


@pytest.mark.parametrize("name", ["../../../victim", "/tmp/victim", "..\\\\victim.arrow", "manifest.json"])
def test_mirror_refuses_hostile_file_names_in_manifest(root: Path, store: Store, tmp_path: Path, name: str) -> None:
    """Check that a name in a manifest cannot lead outside the cache, as it once did and replaced a key file."""
    place = Remote(store.uri("hostile"))
    content = b"own keys"
    (tmp_path / "victim").write_bytes(content)
    made = json.loads((root / manifest.NAME).read_text())
    made["labels"].update(file=name, bytes=4, sha256=hashlib.sha256(b"evil").hexdigest())
    place.write(manifest.NAME, lambda: [json.dumps(made).encode()])
    with pytest.raises(DataError, match=r"labels\.file: .*a name has 1 to 100 letters"):
        prepare(settings(store.uri("hostile"), tmp_path / "cache"))
    assert (tmp_path / "victim").read_bytes() == content
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_open_split_reads_labels_from_shards_without_labels_file(
    store: Store, tmp_path: Path, make_record: Callable[..., ClipRecord], write_shards: Callable[..., Path]
) -> None:
    records = [make_record(index, 5) for index in range(4)]
    old = write_shards(tmp_path / "old", {"train": records}, labelled=False)
    new = write_shards(tmp_path / "new", {"train": records})
    assert not (old / "labels.arrow").exists()
    publish(old, Remote(store.uri("old")))
    clips = [open_split(old, "train"), open_split(new, "train")]
    clips.append(open_split(prepare(settings(store.uri("old"), tmp_path)), "train"))
    for name in ("ids", "subjects", "groups"):
        assert getattr(clips[0], name) == getattr(clips[1], name) == getattr(clips[2], name)
    for name in ("action", "object", "intrinsics", "frame_counts"):
        for other in clips[1:]:
            assert (getattr(clips[0], name) == getattr(other, name)).all()


def test_prepare_refuses_store_without_shards(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s3://bucket/nothing has none\. .* python -m htt\.data\.publish --shards"):
        prepare(settings(store.uri("nothing"), tmp_path))
    with pytest.raises(DataError, match=r"must name an existing bucket; there is no s3://nowhere"):
        prepare(settings(store.uri("nothing", bucket="nowhere"), tmp_path))


def test_prepare_refuses_store_of_another_source(uri: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got h2o, but s3://bucket/noise\?.* holds noise\. Add --set data\.source"):
        prepare(settings(uri, tmp_path, **{"data.source": "h2o"}))


def test_open_split_names_damaged_cache_folder(uri: str, tmp_path: Path) -> None:
    folder = prepare(settings(uri, tmp_path))
    (folder / mirror.ORIGIN).write_text("{")
    with pytest.raises(DataError, match=r"(?s)Damaged cache folder .* Delete it\."):
        open_split(folder, "train")


def test_mirror_uses_cached_shards_if_the_store_is_gone(
    root: Path, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that downloaded shards stay usable, and that a missing shard raises an error."""
    config = settings(uri, tmp_path)
    folder = prepare(config)
    val = open_split(folder, "val")
    val.decode(0, [0])

    def gone(*_: object) -> Iterator[bytes]:
        raise StorageError("gone")

    monkeypatch.setattr(Remote, "blocks", gone)
    assert prepare(config) == folder
    assert open_split(folder, "val").decode(0, [1]).shape[0] == 1
    with pytest.raises(StorageError, match="gone"):
        list(TrainingLoader(open_split(folder, "train"), config).epoch(0))


class Noting(caches.Cache):
    """Cache that records requested shards and downloads nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.fetched: list[str] = []
        self.bad: set[str] = set()

    def has(self, shard: Shard) -> bool:
        return shard.file in self.fetched

    def fetch(self, shard: Shard, remote: Remote) -> None:
        if shard.file in self.bad:
            raise StorageError(shard.file)
        self.fetched.append(shard.file)


def named(letters: str) -> list[Shard]:
    return [Shard.model_construct(file=letter, bytes=10, sha256=letter, clips=1, frames=1) for letter in letters]


@pytest.fixture
def noting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Noting:
    monkeypatch.setattr(prefetch, "THREADS", 1)
    return Noting(tmp_path)


def test_prefetcher_fetches_shards_in_order_of_need(noting: Noting) -> None:
    prefetcher = Prefetcher(noting, Remote("mock:///x"))
    prefetcher.expect_later(named("xab"))
    prefetcher.wait()
    assert noting.fetched == []  # later needs alone start no download
    prefetcher.expect(named("cbcad"))
    prefetcher.wait()
    assert "".join(noting.fetched) == "cbadx"


def test_prefetcher_puts_new_order_before_old(noting: Noting) -> None:
    noting.bad = {"a", "b", "c"}
    prefetcher = Prefetcher(noting, Remote("mock:///x"))
    prefetcher.expect(named("abc"))
    prefetcher.wait()
    assert noting.fetched == []  # a failed download is left to the reader of the shard
    noting.bad = set()
    prefetcher.expect(named("cd"))
    prefetcher.wait()
    assert "".join(noting.fetched) == "cdab"


def test_prefetcher_fetches_ahead_within_a_small_cache(noting: Noting) -> None:
    prefetcher = Prefetcher(noting, Remote("mock:///x"), most_bytes=25)
    prefetcher.expect(named("aabcdea"))
    prefetcher.wait()
    assert "".join(noting.fetched) == "ab"
    prefetcher.reached(named("b")[0])
    prefetcher.wait()
    assert "".join(noting.fetched) == "abcd"
    noting.fetched.remove("a")  # as if removed to make room
    prefetcher.reached(named("d")[0])
    prefetcher.wait()
    assert "".join(noting.fetched) == "bcdea"
    prefetcher.reached(named("z")[0])  # not expected
    prefetcher.wait()
    assert "".join(noting.fetched) == "bcdea"


def test_prefetcher_fetches_nothing_after_stop(noting: Noting) -> None:
    prefetcher = Prefetcher(noting, Remote("mock:///x"))
    prefetcher.stop()
    prefetcher.expect(named("ab"))
    prefetcher.wait()
    assert noting.fetched == []


def test_mirrored_folder_may_be_moved(uri: str, tmp_path: Path) -> None:
    folder = prepare(settings(uri, tmp_path / "one"))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    moved = MirroredFolder(tmp_path / "two" / os.path.relpath(folder, tmp_path / "one"))
    assert moved.manifest.source == "noise"
