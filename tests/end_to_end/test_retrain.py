"""The winner of a search with fresh seeds, as a user types it, with the real final training."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from htt.testing import TINY
from htt.training import checkpoint
from tune.results import retrain

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]
SET = [word for path, value in TINY.items() for word in ("--set", f"{path}={str(value).lower()}")]


def command(*words, cwd):
    """Run a command of the project; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_best_retrain_equals_launch_with_fresh_seeds(tmp_path, cache):
    command(ROOT / "tune/search.py", "--trials", 1, "--name", "tiny", *SET, cwd=tmp_path)
    said = command(ROOT / "tune/best.py", "tiny", "--retrain-seeds", 2, cwd=tmp_path)
    assert "2 fresh seeds (1, 2)" in said
    assert "Report  runs/tiny/retrain/report.md" in said
    found = retrain.read(tmp_path / "runs" / "tiny" / "retrain")
    assert found.done == [1, 2]
    for seed in found.done:
        model, record = checkpoint.load(found.folder(seed) / "checkpoint")
        assert record.config.fingerprint() == found.config_of(seed).fingerprint()
        assert model.info.joints == 42
    table = pl.read_csv(found.path / "seeds.csv")
    errors = table.filter(metric="hand_error_mm")
    assert set(errors["split"]) == {"validation", "test"}
    assert errors["value"].n_unique() == 4, "two seeds and two splits give four numbers"
    name = ["--name", "by-hand", "--set", "train.seed=2"]
    command(ROOT / "cluster/launch.py", "--config", "runs/tiny/best.yaml", *name, cwd=tmp_path)
    by_hand = checkpoint.load(tmp_path / "runs" / "by-hand" / "checkpoint")[0].state_dict()
    ours = checkpoint.load(found.folder(2) / "checkpoint")[0].state_dict()
    assert all(value.equal(by_hand[name]) for name, value in ours.items())
