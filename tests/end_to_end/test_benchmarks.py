"""From a download to the table and the submission, as a user types it, on small folders in the downloads' formats."""

import io
import json
import os
import re
import subprocess
import sys
import zlib
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from htt import console, evaluate, submit
from htt.config import override
from htt.data import convert
from htt.registry import preset
from htt.testing import TINY
from htt.testing.trees import write_fpha, write_h2o
from htt.training.tasks import train
from tune import ablate

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
OURS = re.compile(r"^warning: (The published numbers are of the whole split|Incomplete data).*$", re.MULTILINE)
"""What is said of a part of a data set."""
NOISE = re.compile(r"warning|deprecat|traceback|\(pid=|ray::|INFO|WARNING", re.IGNORECASE)
SMALL = {path: value for path, value in TINY.items() if not path.startswith("data.synthetic")}
SMALL |= {"model.backbone.weights": None, "train.epochs": 1}
SHORT = {"train": 4, "val": 2, "test": 2}
"""So many real rows of each label file, the shortest clips."""


def command(*words, cwd, code=0):
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=1200, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert not NOISE.search(OURS.sub("", said)), said
    return said


def here(script, *words, cwd):
    """Run a command in this process; return its output, free of noise. A test of the script types it as a user does."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        patch.chdir(cwd)
        console.run(script.Options, script.main, [str(word) for word in words])
    assert not NOISE.search(OURS.sub("", said.getvalue())), said.getvalue()
    return said.getvalue()


def settings(**more):
    values = {**SMALL, **more}
    return [
        word
        for path, value in values.items()
        for word in ("--set", f"{path}={value if isinstance(value, str) else json.dumps(value)}")
    ]


def shortest_rows(split: str, count: int) -> list[str]:
    rows = (GOLDEN / "h2o_labels" / f"action_{split}.txt").read_text().splitlines()[1:]
    return sorted(rows, key=lambda row: int(row.split()[-3]) - int(row.split()[-4]))[:count]


@pytest.fixture(scope="module")
def h2o(tmp_path_factory, cache) -> Path:
    """A folder with H2O's raw files in ``raw`` and the shards a conversion made of them in ``shards``."""
    folder = tmp_path_factory.mktemp("h2o")
    write_h2o(folder / "raw", {split: shortest_rows(split, count) for split, count in SHORT.items()})
    words = ["--source", "h2o", "--root", "raw", "--out", "shards", "--width", 64, "--height", 36, "--workers", 1]
    said = here(convert, *words, cwd=folder)
    assert re.search(r"note: train: 4 clips, 1\d\d frames; published are 569", said)
    return folder


@pytest.fixture(scope="module")
def trained_on_h2o(h2o) -> Path:
    """The checkpoint of the paper's recipe, made small, on those shards; FPHA's is trained by the command."""
    values = {**SMALL, "data.source": "h2o", "data.root": str(h2o / "shards")}
    train(override(preset("paper"), values), h2o / "runs" / "h2o", lambda metrics, saved: None)
    return h2o / "runs" / "h2o" / "checkpoint"


def test_h2o_raw_files_become_the_table(h2o, trained_on_h2o):
    said = here(evaluate, "--checkpoint", trained_on_h2o, "--data", "shards", "--split", "val", cwd=h2o)
    assert re.search(r"Action accuracy .* 90\.2 %", said), "the published number stands beside ours"
    frame = pl.read_parquet(h2o / "runs/h2o/evaluation-val/per_clip.parquet")
    assert frame["clip"].to_list() == [row.split()[0] for row in shortest_rows("val", SHORT["val"])]


def test_h2o_test_split_has_poses_scored_and_actions_predicted(h2o, trained_on_h2o):
    said = here(evaluate, "--checkpoint", trained_on_h2o, "--data", "shards", "--split", "test", cwd=h2o)
    assert re.search(r"Action accuracy +unknown .* 86\.4 %", said)
    assert re.search(r"Left hand error +\d+\.\d mm .* 35\.0 mm", said)
    report = (h2o / "runs/h2o/evaluation-test/report.md").read_text()
    assert "The actions of this split are unknown" in report
    assert "confusion" not in report


def test_h2o_submission_is_complete_or_refused(h2o, trained_on_h2o, refused):
    making = ["-m", "htt.submit", "--checkpoint", trained_on_h2o, "--data", "shards", "--out", "submission"]
    said = command(*making, cwd=h2o)
    assert "not H2O's whole test split" in said
    for kind in ("action_labels", "hand_poses"):
        check = ["--check", f"submission/{kind}/answer.zip"]
        said = here(submit, *check, "--data", "shards", cwd=h2o)
        assert "compared with 2 clips of the data" in said
        assert "whole test split" in said
        assert "missing" in refused(submit, *check, cwd=h2o)


@pytest.mark.ray
def test_studies_have_the_trainings_that_the_page_on_reproduction_says(h2o):
    page = (ROOT / "docs/reproduce.md").read_text()
    rows = re.findall(r"^\|[^|]+\| (`\w+`(?:, `\w+`)*) \| (\d[^|]*) \|", page, re.MULTILINE)
    stated = {
        study.strip("`"): product
        for studies, products in rows
        for study, product in zip(studies.split(", "), re.findall(r"(\d+)[a-z ]* x (\d+)", products), strict=True)
    }
    assert len(stated) >= 12
    for study, (variants, seeds) in stated.items():
        words = ["--preset", "paper", "--set", "data.source=h2o", "--set", "data.root=shards", "--study", study]
        said = here(ablate, *words, "--set", "model.backbone.weights=random", "--dry-run", cwd=h2o)
        assert f"{variants} variants x {seeds} seeds" in said, study


@pytest.fixture(scope="module")
def fpha(tmp_path_factory, cache) -> Path:
    """The same for FPHA."""
    folder = tmp_path_factory.mktemp("fpha")
    write_fpha(folder / "raw", {"train": 5, "test": 3}, frames=10)
    words = ["--source", "fpha", "--root", "raw", "--out", "shards", "--width", 64, "--height", 36, "--workers", 1]
    said = here(convert, *words, cwd=folder)
    assert "note: train: 5 clips; published are 600" in said
    assert "45 actions" not in said, "what agrees with the published totals is not mentioned"
    return folder


@pytest.mark.ray
@pytest.mark.slow
def test_fpha_trains_on_all_clips_and_is_evaluated_once(fpha, refused):
    """The paper holds nothing out: no validation, and the test split at the end."""
    words = ["--preset", "paper", "--set", "data.source=fpha", "--set", "data.root=shards", "--name", "fpha"]
    said = command(ROOT / "cluster/launch.py", *words, *settings(), cwd=fpha)
    line = next(line for line in said.splitlines() if "Hand error" in line)
    assert re.fullmatch(r" +Hand error +- +\d+\.\d mm", line), line
    checkpoint = fpha / "runs/fpha/checkpoint"
    said = here(evaluate, "--checkpoint", checkpoint, "--data", "shards", "--split", "test", cwd=fpha)
    assert re.search(r"Action accuracy .* 94\.1 %", said)
    assert re.search(r"Hand AUC .* 0\.810", said)
    said = refused(submit, "--checkpoint", checkpoint, "--data", "shards", cwd=fpha)
    assert "holds fpha. Evaluate it with" in said


@pytest.mark.ray
@pytest.mark.slow
def test_fpha_search_selects_by_held_out_clips(fpha):
    words = ["--space", "paper", "--set", "data.source=fpha", "--set", "data.root=shards", "--trials", 1, "--name", "s"]
    command(ROOT / "tune/search.py", *words, *settings(), cwd=fpha)
    said = command(ROOT / "tune/search.py", *words[:-1], "t", *settings(**{"data.held_out": 0.0}), cwd=fpha, code=2)
    assert "--set data.held_out=0.1" in said


def test_released_weights_are_evaluated_unchanged(fpha, refused):
    """A file as HTT's authors save theirs, with weights of our own: the architecture is the paper's."""
    shapes = json.loads((GOLDEN / "state_dict_shapes_fpha.json").read_text())
    random = {key: np.random.default_rng(zlib.crc32(key.encode())) for key in shapes}
    values = {key: 0.01 * random[key].standard_normal(shape) for key, shape in shapes.items()}
    state = {f"module.{key}": torch.tensor(value, dtype=torch.float32) for key, value in values.items()}
    torch.save({"state_dict": state, "epoch": 45}, fpha / "checkpoint_45.pth")
    words = ["--official", "--checkpoint", "checkpoint_45.pth", "--data", "shards"]
    said = here(evaluate, *words, "--split", "test", "--out", "official", cwd=fpha)
    assert "fpha, test: 3 clips" in said
    found = json.loads((fpha / "official/metrics.json").read_text())
    assert found["metrics"]["hand_auc_ra"]["published"] == 0.763
    assert "val" in refused(evaluate, *words, "--split", "val", cwd=fpha), "the paper's recipe holds nothing out"


def test_released_weights_of_other_benchmark_are_refused(h2o, refused):
    shapes = json.loads((GOLDEN / "state_dict_shapes_fpha.json").read_text())
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    torch.save({"state_dict": state}, h2o / "fpha.pth")
    words = ["--official", "--checkpoint", "fpha.pth", "--data", "shards", "--split", "val"]
    assert "of another shape" in refused(evaluate, *words, cwd=h2o)
