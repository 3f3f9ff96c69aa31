"""``python -m htt.compare``: a row for each form of each model, with the numbers of an evaluation."""

import importlib.util
from pathlib import Path

import polars as pl
import pytest
import torch

from htt import compare, console
from htt.data.loading.splits import open_named
from htt.data.prepare import facts, prepare
from htt.data.shards import manifest
from htt.evaluation.scores import scores
from htt.inference import compression
from htt.inference.compression import NUMBERS, REPORT
from htt.model.htt import HTT
from htt.testing import tiny_config
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress
from htt.training.loop import evaluate

FROZEN = {"model.backbone.trained": False, "model.backbone.weights": "rendered", "data.augment.views": 0}


def save(folder: Path, **changes) -> Path:
    """A checkpoint of an untrained model."""
    config = tiny_config(**{"data.synthetic.val_clips": 4, **FROZEN, **changes})
    torch.manual_seed(0)
    prepare(config, workers=1)
    info = facts(config)
    model = HTT(config.model, info)
    saved = model, optim.optimizer(config.optim, model.parameters())
    return checkpoint.save(folder, *saved, Progress(1), config, info, {})


def run(*words: object) -> None:
    console.run(compare.Options, compare.main, [str(word) for word in words])


@pytest.fixture
def no_onnx(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "onnx" in name else found(name, *a))


def test_compare_evaluates_model_and_student_on_the_same_clips(no_onnx, tmp_path, capsys):
    teacher = save(tmp_path / "large" / "checkpoint")
    student = save(tmp_path / "small" / "checkpoint", **{"model.width": 16, "data.synthetic.val_clips": 2})
    run("--checkpoint", teacher, "--checkpoint", student, "--out", tmp_path / "out")
    said = capsys.readouterr()
    assert said.err.count("is left out: ONNX requires packages that are not installed: onnx") == 4
    made = pl.read_csv(tmp_path / "out" / NUMBERS)
    forms = [("large", "PyTorch fp32"), ("large", "PyTorch bf16"), ("small", "PyTorch fp32"), ("small", "PyTorch bf16")]
    assert list(zip(made["model"], made["form"], strict=True)) == forms
    model, record = checkpoint.load(teacher)
    val = open_named(prepare(record.config), "val", record.config.data)  # images, although training reads features
    wanted = scores(evaluate(model, val, record.config), "val", groups=val.groups)
    for score in wanted.scores:
        if score.metric in compression.SHOWN:
            first = made.row(0, named=True)
            assert first[score.metric] == pytest.approx(score.value)
            assert (first[f"{score.metric}_low"], first[f"{score.metric}_high"]) == pytest.approx(score.interval)
    assert made["hand_error_mm"][1] != made["hand_error_mm"][0]
    assert made["hand_error_mm"][1] == pytest.approx(made["hand_error_mm"][0], rel=0.02)
    assert made["size_mb"][2] < made["size_mb"][0] == pytest.approx((teacher / checkpoint.MODEL).stat().st_size / 1e6)
    assert all(made["latency_ms"] > 0)
    frames = sorted(val.frame_counts.tolist())[1]
    assert made["frames_per_s"][0] * made["latency_ms"][0] / 1000 == pytest.approx(frames)
    assert made["hand_error_mm_difference"][0] is None
    for metric in compression.SHOWN:
        for row in range(1, 4):
            apart = made[metric][row] - made[metric][0]
            assert made[f"{metric}_difference"][row] == pytest.approx(apart, abs=1e-9)
            low, high = made[f"{metric}_difference_low"][row], made[f"{metric}_difference_high"][row]
            assert low <= apart <= high
    own = [made[f"hand_error_mm_{end}"][1] for end in ("low", "high")]
    paired = [made[f"hand_error_mm_difference_{end}"][1] for end in ("low", "high")]
    assert paired[1] - paired[0] < 0.2 * (own[1] - own[0]), "bf16 and fp32 make the same errors on the same clips"
    assert "Differences to large, PyTorch fp32, on the same clips:" in said.out
    report = (tmp_path / "out" / REPORT).read_text()
    assert report.count("\n| small | PyTorch fp32 |") == 2, "a row of each table"
    assert "Split val: 4 clips" in report
    assert report.count("\n| large | PyTorch ") == 3
    assert report.count("\n| small | PyTorch ") == 4
    assert "large  PyTorch fp32  cpu" in said.out


@pytest.mark.slow
def test_compare_includes_onnx_runtime(tmp_path):
    folder = save(tmp_path / "run" / "checkpoint")
    run("--checkpoint", folder, "--out", tmp_path / "out")
    made = pl.read_csv(tmp_path / "out" / NUMBERS)
    assert made["form"].to_list() == ["PyTorch fp32", "PyTorch bf16", "ONNX Runtime fp32", "ONNX Runtime int8"]
    errors, sizes = made["hand_error_mm"].to_list(), made["size_mb"].to_list()
    assert errors[2] == pytest.approx(errors[0], rel=1e-4)
    assert errors[3] != errors[2]
    assert errors[3] == pytest.approx(errors[0], rel=0.05)
    assert sizes[3] < 0.6 * sizes[2]
    assert {file.name for file in (tmp_path / "out").iterdir()} == {REPORT, NUMBERS, "run-fp32.onnx", "run-int8.onnx"}


def test_compare_refuses_invalid_options(refused, tmp_path):
    folder = save(tmp_path / "run" / "checkpoint")
    assert "Missing --checkpoint" in refused(compare, cwd=tmp_path)
    assert "No checkpoint in nowhere" in refused(compare, "--checkpoint", "nowhere", cwd=tmp_path)
    assert "split 'tset'" in refused(compare, "--checkpoint", folder, "--split", "tset", cwd=tmp_path)
    assert not (tmp_path / "compression").exists()


def test_compare_refuses_a_model_of_other_images(refused, tmp_path):
    folders = [save(tmp_path / f"{width}" / "checkpoint", **{"data.synthetic.width": width}) for width in (64, 80)]
    words = [word for folder in folders for word in ("--checkpoint", folder)]
    config = checkpoint.read(folders[1]).config
    said = refused(compare, *words[2:], "--data", prepare(checkpoint.read(folders[0]).config), cwd=tmp_path)
    assert "was trained on other data: width 80 in the checkpoint, 64 in the data" in said
    assert config.data.synthetic.width == 80


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["a/checkpoint", "b/checkpoint"], ["a", "b"]),
        (["x/a/checkpoint", "y/a/checkpoint", "epoch-3"], ["a-1", "a-2", "epoch-3"]),
    ],
)
def test_names_differ(folders, names):
    assert compression.names([Path("/runs") / folder for folder in folders]) == names


def test_on_data_keeps_the_windows_of_the_model():
    first = tiny_config(**{"data.root": "/data", "data.source": "h2o", "data.held_out": 0.2})
    second = tiny_config(**{"data.spacing": 3})
    assert compression.on_data(second, first.data).data == first.data.model_copy(update={"spacing": 3})
    assert compare.Options().split == manifest.VAL
