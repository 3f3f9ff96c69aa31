"""A study as a user types it, with the real training: paired, kept clip by clip, the numbers a search would give."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from htt.config import override
from htt.data.loading.loader import TrainingLoader
from htt.testing import TINY
from htt.training.tasks import open_splits
from tune.experiments.spaces.quick import FROZEN
from tune.results.run_folder import RunFolder

pytestmark = pytest.mark.ray

ROOT = Path(__file__).resolve().parents[2]


def settings(values):
    """Return the options that set some fields."""
    return [word for path, value in values.items() for word in ("--set", f"{path}={str(value).lower()}")]


SET = settings({**FROZEN, **TINY})  # FROZEN: as in the default space


def command(*words, cwd):
    """Run a command of the project; its output."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def studied(tmp_path_factory, cache):
    """A folder in which a tiny study has run, and what it said."""
    folder = tmp_path_factory.mktemp("study")
    words = ["--study", "headline", "--preset", "quick", "--seeds", 2, "--name", "tiny", *SET]
    return folder, command(ROOT / "tune/ablate.py", *words, cwd=folder)


def test_study_writes_table_report_and_clips(studied):
    folder, said = studied
    assert "python tune/ablate.py --resume runs/tiny --seeds" in said
    assert "not enough seeds to claim" in said
    run = RunFolder(folder / "runs" / "tiny")
    trials = run.trials()
    names = ("HTT", "1 frame", "feature alone", "hands and object", "per-frame vote")
    assert [trial.pair for trial in trials] == [(name, seed) for seed in range(2) for name in names]
    assert {trial.state for trial in trials} == {"complete"}
    base = run.record.config()
    ids = open_splits(base).val.ids
    for trial in trials:
        clips = pl.read_parquet(run.clips / f"{trial.id}.parquet")
        assert clips["clip"].to_list() == ids
        assert clips["correct"].mean() == pytest.approx(trial.metrics["action_accuracy"])
        assert clips["correct_hard"].mean() == pytest.approx(trial.metrics["action_accuracy_hard"])
        assert {"hand_error_mm", "hand_error_left_mm", "hand_error_right_mm", "hand_error_ra_mm"} <= set(clips.columns)
        assert np.isfinite(clips["hand_error_mm"].to_numpy()).all()
        low, high = clips["hand_error_mm"].min(), clips["hand_error_mm"].max()
        assert low <= trial.metrics["hand_error_mm"] <= high
    for name in ("report.md", "report.html", "report.tex", "report.csv"):
        assert (run.path / name).stat().st_size > 0


def test_study_training_equals_search_training(studied, searched):
    first, *_ = RunFolder(searched[0] / "runs" / "tiny").trials()
    (reference,) = [one for one in RunFolder(studied[0] / "runs" / "tiny").trials() if one.pair == ("HTT", 0)]
    assert first.fingerprint == reference.fingerprint
    assert first.data == reference.data
    same = [name for name in first.metrics if name not in ("seconds", "latency_ms")]
    assert {name: first.metrics[name] for name in same} == {name: reference.metrics[name] for name in same}


@pytest.mark.slow
def test_study_reuses_reference_and_adds_seeds(studied):
    folder, _ = studied
    words = ["--study", "pose_into_action", "--preset", "quick", "--seeds", 2, "--name", "other", *SET]
    plan = command(ROOT / "tune/ablate.py", *words, "--dry-run", cwd=folder)
    assert "2 reused from tiny" in plan
    assert "About " in plan, "the time is known by what has ended"
    said = command(ROOT / "tune/ablate.py", "--resume", "tiny", "--seeds", 3, cwd=folder)
    assert "5 trainings to do" in said
    assert len(RunFolder(folder / "runs" / "tiny").trials()) == 15


def test_variants_with_equal_windows_see_equal_order(studied):
    """Paired: what differs between two variants of a seed is what the variant changes."""
    folder, _ = studied
    run = RunFolder(folder / "runs" / "tiny")
    variants, base = run.record.study.study.variants, run.record.config()
    orders = {}
    for variant, values in variants.items():
        for seed in (0, 1):
            config = override(base, {**values, "train.seed": seed})
            loader = TrainingLoader(open_splits(config).train, config)
            batches = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
            orders[variant, seed] = [(batch.clip.tolist(), batch.frame.tolist()) for batch in batches]
    for variant in variants:
        assert orders[variant, 0] == orders["HTT", 0]
        assert orders[variant, 1] == orders["HTT", 1]
    assert orders["HTT", 0] != orders["HTT", 1]
