"""A shard that is spoilt between two trials of a search, on this machine and in a store: found, named, nothing lost."""

import os
import shutil

import pytest
from pyarrow import fs

from driven import ended, wait_for
from htt.data.prepare import prepare
from htt.data.shards import manifest
from htt.testing import TINY, tiny_config
from object_stores import CREDENTIALS, Store
from project import ROOT
from tune.results.run_folder import RunFolder

pytestmark = pytest.mark.ray

ON_FRAMES = {**TINY, "model.backbone.trained": True, "data.augment.views": "none"}
SET = [word for path, value in ON_FRAMES.items() for word in ("--set", f"{path}={str(value).lower()}")]
ASK = (*SET, "--name", "run", "--algorithm", "random", "--scheduler", "none", "--max-concurrent", 1)


@pytest.fixture
def shards(tmp_path, cache):
    """A folder of shards, and the first one of the training clips."""
    folder = tmp_path / "shards"
    shutil.copytree(prepare(tiny_config(), workers=1), folder)
    return folder, manifest.read(folder).splits["train"][0]


def spoil(path):
    """Put a file of the same size in another's place; who reads the old one goes on with it."""
    spoilt = path.with_suffix(".spoilt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    spoilt.write_bytes(content)
    os.replace(spoilt, path)


def search(driver, *options, env=None):
    return driver(*ASK, *options, script=ROOT / "tune/search.py", env=env)


@pytest.mark.slow
def test_damaged_local_shard_fails_later_trials(driver, shards, tmp_path):
    folder, shard = shards
    process = search(driver, "--set", f"data.root={folder}", "--trials", 4)
    run = RunFolder(tmp_path / "runs" / "run")
    wait_for(process, run.trials, tmp_path)
    spoil(folder / shard.file)
    before = run.trials()
    said = ended(process, tmp_path, 0)
    after = run.trials()
    assert after[: len(before)] == before
    assert [trial.state for trial in after][:1] == ["complete"]
    assert [trial.state for trial in after][2:] == ["failed"] * 2, "the second may have opened it before"
    for trial in after[2:]:
        assert trial.error.startswith("DataError: Shards do not match their manifest")
        assert str(folder / shard.file) in trial.error
    assert "python cluster/launch.py --config runs/run/best.yaml" in said
    assert "Traceback" not in said


@pytest.fixture
def store(tmp_path_factory, monkeypatch, shards):
    """An S3 server of this machine that has the shards."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = Store(tmp_path_factory.mktemp("store")).start()
    system, path = fs.FileSystem.from_uri(store.uri("shards"))
    fs.copy_files(str(shards[0]), path, destination_filesystem=system, use_threads=False)
    yield store
    store.kill()


@pytest.mark.slow
def test_damaged_shard_of_a_store_is_fetched_again_once(driver, shards, store, tmp_path):
    """In the cache: fetched again, and nothing comes of it. There too: fetched twice, then an error that names it."""
    folder, shard = shards
    env = {"HTT_CACHE": str(tmp_path / "cache")}
    process = search(driver, "--set", f"data.root={store.uri('shards')}", "--trials", 6, env=env)
    run = RunFolder(tmp_path / "runs" / "run")
    wait_for(process, run.trials, tmp_path)
    assert store.gets(shard.file) == 1
    cached = tmp_path / "cache" / "shards" / f"{shard.sha256}.arrow"
    spoil(cached)
    wait_for(process, lambda: store.gets(shard.file) == 2 and len(run.trials()) >= 3, tmp_path)
    system, path = fs.FileSystem.from_uri(store.uri("shards"))
    spoil(folder / shard.file)
    fs.copy_files(str(folder / shard.file), f"{path}/{shard.file}", destination_filesystem=system)
    spoil(cached)
    before = run.trials()
    said = ended(process, tmp_path, 0)
    after = run.trials()
    assert after[: len(before)] == before
    assert {trial.state for trial in after[:3]} == {"complete"}
    assert [trial.state for trial in after][4:] == ["failed"] * 2, "the fourth may have opened it before"
    for trial in after[4:]:
        assert f"bucket/shards/{shard.file} after two downloads; its manifest says sha256 {shard.sha256}" in trial.error
    assert "Traceback" not in said
