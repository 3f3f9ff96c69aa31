"""Own data, from a folder to numbers: convert, train or search, evaluate; with images and with poses alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from htt import console, evaluate
from htt.config import override, read
from htt.data import convert as converting
from htt.registry import preset
from htt.testing import tiny_config
from htt.testing.trees import write_own
from htt.training.tasks import train
from project import ROOT
from tune.results.run_folder import RunFolder

SMALL = {"model.width": 32, "model.action.feedforward": 32, "train.epochs": 2, "train.windows_per_epoch": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("own") / "data"
    write_own(root, {"train": 6, "val": 4, "test": 2}, width=64, height=36, frames=6)
    return root


@pytest.fixture(scope="module")
def poses(folder) -> Path:
    return converted(folder, folder.parent / "poses", "--poses-only")


def converted(folder: Path, out: Path, *words: str) -> Path:
    size = ["--width", "64", "--height", "36", "--workers", "1"]
    words = ("--source", "frames", "--root", str(folder), "--out", str(out), *size, *words)
    console.run(converting.Options, converting.main, list(words))
    return out


def evaluated(checkpoint: Path) -> dict[str, object]:
    console.run(evaluate.Options, evaluate.main, ["--checkpoint", str(checkpoint), "--split", "test"])
    return json.loads((checkpoint.parent / "evaluation-test" / "metrics.json").read_text())


def test_folder_of_images_is_converted_trained_and_evaluated(folder, tmp_path):
    data = converted(folder, tmp_path / "shards")
    config = tiny_config(**{"data.source": "frames", "data.root": str(data), "train.epochs": 1})
    train(config, tmp_path / "run", lambda metrics, saved: None)
    found = evaluated(tmp_path / "run" / "checkpoint")
    assert (found["clips"], found["groups"], found["subjects"]) == (2, 1, 1)
    assert {"hand_error_mm", "action_accuracy", "object_accuracy"} <= set(found["metrics"])


def test_joints_alone_are_trained_and_evaluated(poses, tmp_path):
    data = {"data.source": "frames", "data.root": str(poses), "data.spacing": 1, "runtime.tensorboard": False}
    train(override(preset("poses"), {**data, **SMALL}), tmp_path, lambda metrics, saved: None)
    found = evaluated(tmp_path / "checkpoint")
    accuracies = {"action_accuracy", "action_accuracy_hard", "action_early_auc"}
    assert set(found["metrics"]) == {*accuracies, "loss", "loss_action"}


@pytest.mark.slow
@pytest.mark.ray
def test_search_on_poses_ends_with_a_report_without_hands(poses, tmp_path):
    values = {"data.source": "frames", "data.root": poses, **SMALL, "runtime.tensorboard": False}
    settings = [word for path, value in values.items() for word in ("--set", f"{path}={value}")]
    words = ["--space", "poses", "--trials", "3", "--max-concurrent", "1", "--name", "poses", *settings]
    command = [sys.executable, ROOT / "tune/search.py", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert "Best of 3 trials by action_accuracy" in printed
    assert "By guessing: action accuracy 25.0 % (chance)." in printed
    run = RunFolder(tmp_path / "runs" / "poses")
    assert len(run.trials()) == 3
    report = run.report.read_text()
    assert "action_accuracy" in report
    for absent in ("hand error", "Hand error", "Object accuracy", "nan", "no images"):
        assert absent not in report, absent
    assert not run.predictions.exists()
    assert read(run.best).model.backbone.name == "none"
    launch = [sys.executable, ROOT / "tune/best.py", "poses"]
    assert subprocess.run(launch, cwd=tmp_path, capture_output=True, timeout=600, check=False).returncode == 0
