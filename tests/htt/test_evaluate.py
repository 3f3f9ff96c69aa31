"""``python -m htt.evaluate``: the files it leaves, the same from any number of workers, and its errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from PIL import Image

from htt import console, evaluate
from htt.config import Config
from htt.data.prepare import prepare
from htt.data.shards import manifest
from htt.evaluation.metric_table import EVALUATED
from htt.model.htt import HTT
from htt.testing import tiny_config
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress
from htt.training.tasks import OF_HAND_TYPES, open_splits

ROOT = Path(__file__).resolve().parents[2]
HUNG_S = 1800
"""A command ends by itself; on a busy machine that takes minutes."""


def save(folder: Path, config: Config) -> Path:
    """A checkpoint of an untrained model."""
    torch.manual_seed(0)
    prepare(config, workers=1)
    info = open_splits(config).info
    model = HTT(config.model, info)
    return checkpoint.save(
        folder, model, optim.optimizer(config.optim, model.parameters()), Progress(1), config, info, {}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache) -> Path:
    """A checkpoint whose validation split has several batches."""
    config = tiny_config(**{"data.synthetic.val_clips": 9, "train.batch_size": 1, "model.action.length": 3})
    return save(tmp_path_factory.mktemp("evaluate") / "checkpoint", config)


def run(*words: object, code: int = 0) -> None:
    if code:
        with pytest.raises(SystemExit) as left:
            console.run(evaluate.Options, evaluate.main, [str(word) for word in words])
        assert left.value.code == code
    else:
        console.run(evaluate.Options, evaluate.main, [str(word) for word in words])


@pytest.fixture(scope="module")
def evaluated(trained) -> Path:
    """The folder of an evaluation in this process."""
    run("--checkpoint", trained, "--split", "val")
    return trained.parent / "evaluation-val"


def test_metrics_file_holds_all_metrics_with_intervals(evaluated):
    found = json.loads((evaluated / "metrics.json").read_text())
    assert (found["source"], found["split"], found["clips"]) == ("synthetic", "val", 9)
    assert found["metrics"].keys() == {
        name for name in EVALUATED if name not in OF_HAND_TYPES and "forecast" not in name
    }, "this model has no head for hand types and no forecast"
    action = found["metrics"]["action_accuracy"]
    assert (action["clips"], action["interval"], action["published"]) == (9, "Wilson, effective number of clips", None)
    assert action["low"] <= action["value"] <= action["high"]
    curve = found["curves"]["hand_auc_ra_left"]
    assert len(curve["distance_mm"]) == len(curve["fraction"]) == len(curve["low"]) == 21


def test_clip_table_has_one_row_per_clip(evaluated):
    frame = pl.read_parquet(evaluated / "per_clip.parquet")
    assert frame["clip"].to_list() == [f"val-{index:05d}" for index in range(9)]
    groups = json.loads((evaluated / "metrics.json").read_text())["groups"]
    assert frame["group"].n_unique() == groups < 9, "some of these clips are one motion"
    found = json.loads((evaluated / "metrics.json").read_text())["metrics"]
    assert frame["correct"].mean() == pytest.approx(found["action_accuracy"]["value"])
    assert frame["hand_error_mm"].is_not_null().all()


def test_report_shows_its_pictures(evaluated):
    text = (evaluated / "report.md").read_text()
    assert "# the rendered benchmark, val split" in text
    assert "| Action accuracy |" in text
    assert "One clip is 11.11 points" in text
    for picture in ("pck.png", "early_action.png", "confusion.png"):
        assert f"]({picture})" in text
        with Image.open(evaluated / picture) as image:
            assert min(image.size) > 400


def test_evaluate_prints_numbers_and_file_locations(trained, evaluated, capsys, monkeypatch):
    monkeypatch.setattr(console.out, "width", 80)
    run("--checkpoint", trained, "--split", "val")
    shown = capsys.readouterr().out
    assert "synthetic, val: 9 clips" in shown
    assert f"{evaluated}/report.md" in shown.replace("\n", "")
    command = f"python -m htt.evaluate --checkpoint {trained} --split test"
    assert shown.replace("\n", "").endswith(f"Next:  {command}")
    assert max(len(line) for line in shown.splitlines() if "hand" in line.lower()) <= 80


def test_incomplete_split_is_stated_on_screen_and_in_files(trained, cache, tmp_path, capsys):
    config = tiny_config(**{"data.synthetic.val_clips": 9})
    shards = shutil.copytree(prepare(config), tmp_path / "shards")
    found = manifest.read(shards)
    wanted = {**found.wanted, "val": [*found.wanted["val"], manifest.Wanted(id="gone", first=0, frames=5)]}
    manifest.write(shards, found.model_copy(update={"wanted": wanted}))
    run("--checkpoint", trained, "--split", "val", "--data", shards, "--out", tmp_path / "out")
    said = "Incomplete data: split 'val' has 9 of 10 clips"
    assert said in capsys.readouterr().err
    assert said in (tmp_path / "out" / "report.md").read_text()
    plain = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert plain["complete"] is False
    assert said in plain["warnings"][0]


def test_bounds_and_untrained_heads_are_named_beside_the_numbers(tmp_path, cache, capsys):
    off = {"loss.joints_px": 0.0, "loss.depth_m": 0.0, "model.action.given": ["object"]}
    run("--checkpoint", save(tmp_path / "checkpoint", tiny_config(**off)), "--split", "val", "--out", tmp_path)
    for text in (capsys.readouterr().err.replace("\n", " "), (tmp_path / "report.md").read_text()):
        assert "Block A got the true object (model.action.given): the accuracy of actions is an upper bound" in text
        assert "The hand head was trained with a weight of 0 of loss.joints_px and loss.depth_m" in text
        assert "The object head" not in text


def on_workers(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "htt.evaluate", "--split", "val", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_S, check=False)


@pytest.mark.ray
@pytest.mark.slow
def test_several_workers_give_the_same_bytes(trained, evaluated, tmp_path):
    done = on_workers("--checkpoint", trained, "--workers", 2, "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for name in ("metrics.json", "per_clip.parquet"):
        assert (tmp_path / name).read_bytes() == (evaluated / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in evaluated.iterdir())


@pytest.mark.ray
@pytest.mark.slow
def test_worker_error_is_printed_in_one_line(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "checkpoint")
    weights = tmp_path / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = on_workers("--checkpoint", tmp_path / "checkpoint", "--workers", 2)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Damaged checkpoint: "), done.stderr
    assert done.stderr.count("\n") == 1


def test_mistakes_are_one_sentence(trained, tmp_path, capsys):
    mistakes = [
        (["--checkpoint", tmp_path / "none", "--split", "val"], "expected a checkpoint.json"),
        (["--checkpoint", trained, "--split", "vall"], "Available: train, val, test. Did you mean 'val'?"),
        (["--checkpoint", trained, "--split", "val", "--workers", "0"], "--workers must be 1 or more"),
        (["--checkpoint", trained, "--split", "val", "--data", tmp_path / "none"], "does not exist"),
        (["--checkpoint", trained, "--split", "val", "--set", "train.precison=fp32"], "mean 'train.precision'?"),
        (["--checkpoint", trained / "model.safetensors", "--split", "val"], "add --official"),
        (["--checkpoint", trained, "--official", "--split", "val"], "--official expects the file of weights"),
        (["--checkpoint", trained / "model.safetensors", "--official", "--split", "val"], "--data is required"),
    ]  # fmt: skip
    for words, message in mistakes:
        run(*words, code=2)
        said = capsys.readouterr().err
        assert message in said, said
        assert said.count("error:") == 1


def test_data_of_another_kind_are_refused_naming_what_differs(trained, capsys):
    prepare(tiny_config(**{"data.synthetic.val_clips": 9, "data.synthetic.width": 72}), workers=1)
    run("--checkpoint", trained, "--split", "val", "--set", "data.synthetic.width=72", code=2)
    assert "width 64 in the checkpoint, 72 in the data" in capsys.readouterr().err


def test_early_action_is_a_table_a_file_and_a_metric(evaluated):
    found = json.loads((evaluated / "metrics.json").read_text())
    curve, clips = found["curves"]["action_early_auc"], pl.read_parquet(evaluated / "per_clip.parquet")
    frame = pl.read_csv(evaluated / "early_action.csv")
    assert frame.columns == ["share", "accuracy", "low", "high"]
    assert frame["share"].to_list() == [tenth / 10 for tenth in range(1, 11)]
    assert frame["accuracy"].to_list() == pytest.approx(curve["fraction"])
    right = clips["correct_early"].to_numpy()
    assert right.mean(axis=0).tolist() == pytest.approx(curve["fraction"])
    assert right[:, -1].tolist() == clips["correct"].to_list(), "a whole clip is what it was"
    area, action = found["metrics"]["action_early_auc"], found["metrics"]["action_accuracy"]
    assert clips["action_early_auc"].mean() == pytest.approx(area["value"])
    assert (area["unit"], area["higher_is_better"]) == ("", True)
    assert area["interval"] == "bootstrap over groups of clips"
    assert area["low"] <= area["value"] <= area["high"]
    assert (curve["low"][-1], curve["high"][-1]) == pytest.approx((action["low"], action["high"]))
    text = (evaluated / "report.md").read_text()
    assert "| Early action AUC |" in text
    assert f"| 10 % | {100 * curve['fraction'][0]:.1f} % |" in text
    assert text.count(" % | ") > 10
