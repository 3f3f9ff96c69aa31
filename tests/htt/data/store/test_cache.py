"""Shard cache of a machine: shards are complete, downloaded once, and never removed while in use."""

import errno
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from htt.data.shards.manifest import Shard
from htt.data.store.cache import Cache
from htt.data.store.remote import Remote
from htt.errors import DataError, StorageError
from object_stores import Gate, Store

SIZE = 1000


def content(letter: str) -> bytes:
    return letter.encode() * SIZE


def shard(letter: str) -> Shard:
    sha256 = hashlib.sha256(content(letter)).hexdigest()
    return Shard.model_construct(file=letter, bytes=SIZE, sha256=sha256, clips=1, frames=1)


class Counting(Remote):
    """Remote on a local folder that records its reads, and returns the bytes of ``spoilt`` first."""

    def __init__(self, root: Path) -> None:
        super().__init__("mock://place", fs.SubTreeFileSystem(str(root), fs.LocalFileSystem()), "")
        self.read_files: list[str] = []
        self.spoilt: list[bytes] = []

    def blocks(self, file: str, since: float | None = None) -> Iterator[bytes]:
        self.read_files.append(file)
        yield from [self.spoilt.pop(0)] if self.spoilt else super().blocks(file, since)


@pytest.fixture
def remote(tmp_path: Path) -> Counting:
    root = tmp_path / "remote"
    root.mkdir()
    for letter in "abcd":
        (root / letter).write_bytes(content(letter))
    return Counting(root)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def there(cache: Cache) -> str:
    return "".join(letter for letter in "abcd" if cache._path(shard(letter)).exists())


def parts(cache: Cache) -> list[Path]:
    return list(cache.folder.glob("*.part"))


def test_cache_fetches_shard_once(cache: Cache, remote: Counting) -> None:
    assert not cache.has(shard("a"))
    for _ in range(2):
        assert bytes(cache.mapped(shard("a"), remote)) == content("a")
        cache.fetch(shard("a"), remote)
    assert bytes(Cache(cache.folder).mapped(shard("a"), remote)) == content("a")
    assert cache.has(shard("a"))
    assert remote.read_files == ["a"]


@pytest.mark.parametrize("spoilt", [b"x" * SIZE, b"a" * (SIZE - 1), b"a" * (SIZE + 1), b""])
def test_cache_fetches_again_once_on_wrong_checksum(
    cache: Cache, remote: Counting, spoilt: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    remote.spoilt = [spoilt]
    assert bytes(cache.mapped(shard("a"), remote)) == content("a")
    assert remote.read_files == ["a", "a"]
    assert "/a; downloading it again." in capsys.readouterr().err
    remote.spoilt = [spoilt, spoilt]
    with pytest.raises(DataError, match=r"Wrong checksum of .*b after two downloads; .* says sha256 [0-9a-f]{64}\."):
        cache.mapped(shard("b"), remote)
    assert remote.read_files == ["a", "a", "b", "b"]
    assert there(cache) == "a"
    assert parts(cache) == []


def test_cache_fetches_changed_shard_again(cache: Cache, remote: Counting, capsys: pytest.CaptureFixture[str]) -> None:
    cache.fetch(shard("a"), remote)
    path = cache._path(shard("a"))
    before = path.stat()
    path.write_bytes(content("b"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # like a copy that keeps times
    assert bytes(cache.mapped(shard("a"), remote)) == content("a")
    assert remote.read_files == ["a", "a"]
    assert "a changed in the cache" in capsys.readouterr().err


def test_cache_keeps_shard_with_changed_time_only(cache: Cache, remote: Counting) -> None:
    cache.fetch(shard("a"), remote)
    cache._path(shard("a")).touch()
    assert bytes(cache.mapped(shard("a"), remote)) == content("a")
    assert remote.read_files == ["a"]


def test_cache_evicts_least_recently_used_shard(cache: Cache, remote: Counting) -> None:
    cache.limit_bytes = 2 * SIZE
    for letter in "ab":
        cache.fetch(shard(letter), remote)
    cache.mapped(shard("a"), remote)  # mapped and released at once
    cache.fetch(shard("c"), remote)
    assert there(cache) == "ac"
    assert not cache._checked(cache._path(shard("b"))).exists()


def test_cache_never_evicts_mapped_shard(cache: Cache, remote: Counting) -> None:
    cache.limit_bytes = SIZE
    mapped = cache.mapped(shard("a"), remote)
    for letter in "bc":
        Cache(cache.folder, SIZE).fetch(shard(letter), remote)
    assert there(cache) == "ac"  # above the limit, because a is mapped and c is new
    assert bytes(mapped) == content("a")
    view = memoryview(mapped)
    del mapped
    cache.fetch(shard("d"), remote)
    assert there(cache) == "ad"  # a view of the map keeps it too
    del view
    cache.fetch(shard("b"), remote)
    assert there(cache) == "b"


def test_cache_detects_full_disk_before_download(
    cache: Cache, remote: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"No free space to write below .*cache: the disk is full"):
        cache.mapped(shard("a"), remote)
    assert remote.read_files == []
    assert parts(cache) == []


def test_cache_works_without_space_reservation(cache: Cache, remote: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown)
    assert bytes(cache.mapped(shard("a"), remote)) == content("a")


def test_cache_evicts_unused_shards_when_disk_fills(
    cache: Cache, remote: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    for letter in "ab":
        cache.fetch(shard(letter), remote)
    usage = shutil.disk_usage(cache.folder)

    def free(folder: Path) -> object:
        return usage._replace(free=0 if cache._path(shard("a")).exists() else SIZE)

    monkeypatch.setattr(shutil, "disk_usage", free)
    cache.fetch(shard("c"), remote)
    assert there(cache) == "bc"


KILLED = """
    import sys, time
    from htt.data.store.cache import Cache
    from htt.data.shards.manifest import Shard
    from htt.data.store.remote import Remote
    from pathlib import Path

    class Slow(Remote):
        def blocks(self, file, since=None):
            yield b"a" * 500
            print("half", flush=True)
            time.sleep(60)

    shard = Shard.model_construct(file="a", bytes=1000, sha256=sys.argv[2], clips=1, frames=1)
    Cache(Path(sys.argv[1])).fetch(shard, Slow("mock://place/x"))
"""


def test_cache_removes_partial_download_after_kill(cache: Cache, remote: Counting) -> None:
    for letter in "ab":  # the shard of the killed process, and another one
        command = [sys.executable, "-uc", textwrap.dedent(KILLED), str(cache.folder), shard("a").sha256]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stdout.readline() == b"half\n"
            assert len(parts(cache)) == 1
            assert not cache._path(shard("a")).exists()
            process.send_signal(signal.SIGKILL)
        assert len(parts(cache)) == 1
        assert bytes(cache.mapped(shard(letter), remote)) == content(letter)
        assert parts(cache) == []
        cache._path(shard("a")).unlink(missing_ok=True)


FETCH = """
    import json, sys, time
    from htt.data.store.cache import Cache
    from htt.data.shards.manifest import Shard
    from htt.data.store.remote import Remote
    from pathlib import Path

    shards = [Shard.model_construct(**json.loads(text)) for text in sys.argv[3:]]
    remote, cache = Remote(sys.argv[2]), Cache(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    for shard in shards:
        assert bytes(cache.mapped(shard, remote)) == shard.file.encode() * shard.bytes
"""


def test_cache_downloads_once_for_concurrent_processes(tmp_path: Path, store: Store) -> None:
    there = Remote(store.uri("once"))
    for letter in "ab":
        there.write(letter, lambda letter=letter: [content(letter)])
    texts = [shard(letter).model_dump_json() for letter in "ab"]
    command = [sys.executable, "-uc", textwrap.dedent(FETCH), str(tmp_path), store.uri("once"), *texts]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
    for process in processes:
        process.communicate(b"go\n", timeout=300)
        assert process.returncode == 0
    assert [store.gets(f"once/{letter}") for letter in "ab"] == [1, 1]


def test_cache_waits_for_unreachable_server(tmp_path: Path, store: Store) -> None:
    Remote(store.uri("outage")).write("a", lambda: [content("a")])
    gate = Gate(store.port).start()
    gate.kill()
    uri = store.uri("outage", port=gate.port)
    command = [sys.executable, "-uc", textwrap.dedent(FETCH), str(tmp_path / "cache"), uri]
    try:
        with subprocess.Popen([*command, shard("a").model_dump_json()], stdin=subprocess.PIPE) as process:
            assert process.stdin
            process.stdin.write(b"go\n")
            process.stdin.close()
            time.sleep(8)  # longer than Arrow itself retries
            assert process.poll() is None
            gate.start()
            assert process.wait(300) == 0
    finally:
        gate.kill()
