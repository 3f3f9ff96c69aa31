"""Copies of shards in an object store: the manifest is written last, and differing files are replaced."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from htt.data.publish import Options, main, publish
from htt.data.shards import manifest
from htt.data.sources import ClipRecord
from htt.data.store.remote import Remote
from htt.errors import ConfigError, DataError
from object_stores import Store


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory,
    make_record: Callable[..., ClipRecord],
    write_shards: Callable[..., Path],
) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), {"train": [make_record(index, 9) for index in range(3)]})


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_file())


def test_publish_copies_every_file(root: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    main(Options(shards=root, to=store.uri("copy")))
    there = Remote(store.uri("copy"))
    for name in files(root):
        assert there.read(name) == (root / name).read_bytes()
    assert "--set data.source=noise --set 'data.root=s3://bucket/copy?" in capsys.readouterr().out


def test_publish_replaces_damaged_shard(root: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    there = Remote(store.uri("mended"))
    publish(root, there)
    shard = manifest.read(root).shards("train")[0].file
    there.write(shard, lambda: [b"x" * (root / shard).stat().st_size])
    written, plain = [], Remote.write
    monkeypatch.setattr(
        Remote, "write", lambda remote, file, blocks: written.append(file) or plain(remote, file, blocks)
    )
    publish(root, there)
    assert written == [shard, manifest.NAME]
    assert there.read(shard) == (root / shard).read_bytes()


def test_publish_refuses_folder_with_other_shards(root: Path, store: Store) -> None:
    there = Remote(store.uri("taken"))
    there.write(manifest.NAME, lambda: [b"{}"])
    with pytest.raises(DataError, match=r"s3://bucket/taken already holds other shards\. Choose another folder"):
        publish(root, there)


def test_publish_refuses_target_that_is_no_uri(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"--to must be a URI, such as s3://bucket/h2o; got /data"):
        main(Options(shards=root, to="/data"))


def test_publish_command_refuses_folder_without_shards(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "htt.data.publish", "--shards", str(tmp_path), "--to", "s3://bucket/x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "error: Invalid --shards: expected a folder of shards" in done.stderr


@pytest.mark.parametrize(("place", "rule"), [("foo://x/y", "must be a folder or a URI"), ("s3://", "must")])
def test_publish_names_option_of_invalid_uri(root: Path, place: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^--to {rule}"):
        main(Options(shards=root, to=place))
