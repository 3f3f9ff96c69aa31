"""Preparation of the data of a configuration: rendered once, checked once."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLongError
from pathlib import Path

import numpy as np
import pytest

from htt import files, scene
from htt.config import Config, override
from htt.data import location
from htt.data.loading.clips import open_split
from htt.data.location import absolute, cache_folder, data_key, local_folder, synthetic_key
from htt.data.prepare import facts, prepare
from htt.data.shards import manifest
from htt.data.sources.synthetic import SyntheticSource
from htt.errors import DataError

TINY = {
    "data.synthetic.train_clips": 3,
    "data.synthetic.val_clips": 2,
    "data.synthetic.test_clips": 1,
    "data.synthetic.frames": 4,
    "data.synthetic.width": 32,
    "data.synthetic.height": 32,
}


def tiny(cache: Path) -> Config:
    return override(Config(), {**TINY, "runtime.cache": str(cache)})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    prepare(tiny(folder), workers=1)
    return folder


def test_prepare_renders_benchmark(cache: Path) -> None:
    config = tiny(cache)
    root = prepare(config)
    assert root == cache / f"synthetic-{synthetic_key(config)}"
    assert {split: manifest.read(root).count(split)[0] for split in ("train", "val", "test")} == {
        "train": 3,
        "val": 2,
        "test": 1,
    }
    clips = open_split(root, "train")
    (plan, *_) = scene.plan({"train": 3}, 4, 0)
    expected = scene.render(plan, 32, 32)
    assert clips.info.actions == scene.ACTIONS
    assert clips.ids[0] == plan.clip_id
    assert clips.action[0] == plan.action
    assert clips.groups[0] == plan.group
    np.testing.assert_array_equal(clips.joints(0), expected.joints_m)
    np.testing.assert_array_equal(clips.intrinsics[0], expected.intrinsics)
    shown = clips.decode(0, [0])[0].permute(1, 2, 0).numpy().astype(float)
    assert np.abs(shown - expected.frames[0]).mean() < 12


def test_prepare_renders_once(cache: Path) -> None:
    root = prepare(tiny(cache))
    before = (root / "train-00000.arrow").stat().st_mtime_ns
    assert prepare(tiny(cache)) == root
    assert (root / "train-00000.arrow").stat().st_mtime_ns == before


def test_synthetic_key_depends_on_rendering_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(tmp_path)
    key = synthetic_key(config)
    assert synthetic_key(override(config, {"optim.lr": 1.0, "runtime.cache": "elsewhere"})) == key
    assert synthetic_key(override(config, {"data.synthetic.seed": 1})) != key
    monkeypatch.setattr(location, "VERSION", 10**6)
    assert synthetic_key(config) != key


def test_data_key_is_independent_of_location(cache: Path, tmp_path: Path) -> None:
    config = tiny(cache)
    assert data_key(config) == f"synthetic-{synthetic_key(config)}"
    root = prepare(config)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    keys = [data_key(override(config, {"data.root": str(place)})) for place in (root, copy)]
    assert keys[0] == keys[1]
    found = manifest.read(copy)
    first = found.splits["train"][0].model_copy(update={"sha256": "0" * 64})
    manifest.write(copy, found.model_copy(update={"splits": {**found.splits, "train": [first]}}))
    assert data_key(override(config, {"data.root": str(copy)})) != keys[0]


def test_facts_need_no_rendering(cache: Path, tmp_path: Path) -> None:
    nowhere = override(tiny(cache), {"runtime.cache": str(tmp_path / "empty")})
    assert facts(nowhere) == manifest.read(prepare(tiny(cache))).info
    assert not (tmp_path / "empty").exists()
    assert facts(override(nowhere, {"data.root": str(prepare(tiny(cache)))})) == facts(nowhere)


def test_cache_folder_follows_configuration_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HTT_CACHE", raising=False)
    assert cache_folder(Config()) == Path.home() / ".cache/htt"
    monkeypatch.setenv("HTT_CACHE", "/somewhere")
    assert cache_folder(Config()) == Path("/somewhere")
    assert cache_folder(override(Config(), {"runtime.cache": "/here"})) == Path("/here")


def test_prepare_handles_two_concurrent_calls(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        roots = list(pool.map(lambda _: prepare(tiny(tmp_path), workers=1), range(2)))
    assert roots[0] == roots[1]
    manifest.verify(roots[0])


def test_prepare_continues_after_death_of_lock_owner(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    lock = tmp_path / f"synthetic-{synthetic_key(config)}" / ".lock"
    lock.parent.mkdir()
    hold = f"import fcntl; file = open({str(lock)!r}, 'w'); fcntl.flock(file, fcntl.LOCK_EX); print('held'); input()"
    owner = subprocess.Popen([sys.executable, "-uc", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"held\n"
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(prepare, config, 1)
            with pytest.raises(TooLongError):
                waiting.result(0.3)
            owner.kill()
            manifest.verify(waiting.result(30))


def test_prepare_checks_given_shards_once(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = override(tiny(tmp_path), {"data.root": str(prepare(tiny(cache)))})
    sums = []
    plain = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: sums.append(path) or plain(path))
    assert prepare(config) == prepare(config) == Path(str(config.data.root))
    assert len(sums) == 4  # three shards and the labels


def test_prepare_rereads_only_the_changed_shard(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shutil.copytree(prepare(tiny(cache)), tmp_path / "shards")
    config = override(tiny(tmp_path), {"data.root": str(root)})
    prepare(config)
    sums = []
    plain = files.sha256
    monkeypatch.setattr(files, "sha256", lambda path: sums.append(path.name) or plain(path))
    shard = root / "val-00000.arrow"
    before = shard.stat()
    with shard.open("r+b") as file:
        file.seek(-500, os.SEEK_END)
        file.write(b"spoilt")
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))  # like a copy that keeps times
    for _ in range(2):  # the second call finds it too
        with pytest.raises(DataError, match=r"val-00000\.arrow has sha256 .*, not .* as in its manifest"):
            prepare(config)
    assert sums == ["val-00000.arrow"] * 2


def test_absolute_and_located_accept_paths_and_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("shards") == absolute(f"file://{tmp_path}/shards") == str(tmp_path / "shards")
    assert absolute("s3://bucket/h2o?region=eu") == "s3://bucket/h2o?region=eu"
    assert local_folder("shards") == Path("shards")
    assert local_folder(f"file://{tmp_path}") == tmp_path


def test_prepare_refuses_shard_with_wrong_checksum(cache: Path, tmp_path: Path) -> None:
    root = tmp_path / "shards"
    root.mkdir()
    for path in prepare(tiny(cache)).glob("*.*"):
        (root / path.name).write_bytes(path.read_bytes())
    shard = root / "val-00000.arrow"
    data = bytearray(shard.read_bytes())
    data[-500] ^= 1
    shard.write_bytes(data)
    config = override(tiny(tmp_path), {"data.root": str(root)})
    with pytest.raises(DataError, match=r"val-00000\.arrow has sha256 .*, not .* as in its manifest"):
        prepare(config)


def test_prepare_refuses_missing_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist\. Make shards with: python -m htt\.data\.convert"):
        prepare(override(tiny(tmp_path), {"data.root": str(tmp_path / "nowhere")}))
    with pytest.raises(DataError, match=r"data\.root is required with data\.source h2o: a folder of shards"):
        prepare(override(tiny(tmp_path), {"data.source": "h2o"}))


def test_prepare_finds_changed_shard_in_cache(cache: Path, tmp_path: Path) -> None:
    config = tiny(shutil.copytree(cache, tmp_path / "cache"))
    shard = prepare(config) / "val-00000.arrow"
    data = bytearray(shard.read_bytes())
    data[-500] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"only a cache: delete .* to render it again"):
        prepare(config)


def test_prepare_refuses_shards_of_another_source(cache: Path, tmp_path: Path) -> None:
    config = override(tiny(tmp_path), {"data.source": "h2o", "data.root": str(prepare(tiny(cache)))})
    with pytest.raises(DataError, match=r"got h2o, but .* holds synthetic\. Add --set data\.source=synthetic"):
        prepare(config)


def test_held_out_clips_may_be_of_other_cameras() -> None:
    config = override(Config(), {**TINY, "data.synthetic.focal": [0.7], "data.synthetic.held_out_distance": [1.5]})
    source = SyntheticSource(config.data.synthetic)
    cameras = {split: {(key.entry.focal, key.entry.distance) for key in source.clips(split)} for split in source.splits}
    assert cameras == {"train": {(0.7, 1.0)}, "val": {(0.7, 1.5)}, "test": {(0.7, 1.5)}}
    assert synthetic_key(config) != synthetic_key(override(Config(), TINY))
