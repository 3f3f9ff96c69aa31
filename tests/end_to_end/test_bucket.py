"""Everything in a bucket, on a real S3 server: the data, what a search finds, what a final training saves."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from htt.testing import TINY
from htt.testing.trees import write_h2o
from htt.training import checkpoint
from object_stores import CREDENTIALS, Store

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
LABELS = {
    "train": [f"{number} subject1/h1/0 {number} {4 * number} {4 * number + 9} 0 60" for number in range(1, 5)],
    "val": [f"{number} subject3/h1/0 {number} {4 * number} {4 * number + 9} 0 60" for number in range(1, 4)],
}
CHANGED = {path: value for path, value in TINY.items() if not path.startswith("data.synthetic")}


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = Store(tmp_path).start()
    yield server
    server.kill()


def run(*words, cwd):
    """What a command of the project says; it must end well."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_bucket_holds_data_search_and_final_training(store, tmp_path, monkeypatch):
    write_h2o(tmp_path / "h2o", LABELS)
    data, runs, finals = (store.uri(name) for name in ("data", "runs", "finals"))
    run("-m", "htt.data.convert", "--source", "h2o", "--root", "h2o", "--out", "shards", cwd=tmp_path)
    run("-m", "htt.data.publish", "--shards", "shards", "--to", data, cwd=tmp_path)
    shutil.rmtree(tmp_path / "shards")
    values = {**CHANGED, "data.source": "h2o", "data.root": data}
    settings = [word for path, value in values.items() for word in ("--set", f"{path}={str(value).lower()}")]
    search = [ROOT / "tune/search.py", "--name", "run", "--trials", 2, "--storage", runs, *settings]

    said = run(*search, cwd=tmp_path)
    command = re.search(r"python (cluster/launch\.py --config \S+)", said)[1].split()
    shutil.rmtree(tmp_path / "runs")  # another machine: what it needs is in the bucket
    said = run(ROOT / "tune/best.py", "run", "--storage", runs, cwd=tmp_path)
    assert "trial" in said

    monkeypatch.setenv("HTT_CACHE", str(tmp_path / "another"))
    script, *options = command
    said = run(ROOT / script, *options, "--workers", 2, "--storage", finals, "--name", "final", cwd=tmp_path)
    assert re.search(r"^epoch 2/2", said, re.MULTILINE)
    _, record = checkpoint.load(tmp_path / "runs/final/checkpoint")
    assert record.config.data.root == data
    assert record.progress.epoch == 2
