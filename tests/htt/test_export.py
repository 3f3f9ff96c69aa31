"""``python -m htt.export``: one file that predicts what its checkpoint predicts, for any number of frames."""

import contextlib
import importlib.util
import io
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from htt import console, export
from htt.data.loading.splits import open_named
from htt.data.prepare import facts, prepare
from htt.errors import CheckpointError, ConfigError
from htt.inference import export as exports
from htt.model.htt import HTT
from htt.testing import random_batch, tiny_config, tiny_info
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress
from htt.training.loop import evaluate

FROZEN = {"model.backbone.trained": False, "model.backbone.weights": "rendered", "data.augment.views": 0}
SMALL = {"data.synthetic.train_clips": 3, "data.synthetic.val_clips": 2, "data.synthetic.test_clips": 1}


def save(folder: Path, **changes) -> Path:
    """A checkpoint of an untrained model."""
    config = tiny_config(**SMALL, **changes)
    torch.manual_seed(0)
    prepare(config, workers=1)
    info = facts(config)
    model = HTT(config.model, info)
    saved = model, optim.optimizer(config.optim, model.parameters())
    return checkpoint.save(folder, *saved, Progress(1), config, info, {})


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache) -> Path:
    return save(tmp_path_factory.mktemp("export") / "checkpoint")


def run(*words: object) -> None:
    console.run(export.Options, export.main, [str(word) for word in words])


def assert_equal(model: HTT, exported: exports.Exported) -> None:
    """Both give the same for windows of other lengths than the example of the export, one by one and in a batch."""
    for lengths in ([1], [4], [7, 3, 12]):
        batch = random_batch(model.info, lengths, seed=len(lengths))
        with torch.inference_mode():
            wanted = model(batch.frames, batch.valid, batch.intrinsics)
            found = exported(batch.frames, batch.valid, batch.intrinsics)
        for name in exports.OUTPUTS:
            expected = getattr(wanted, name)
            difference = (getattr(found, name) - expected).abs().max() / expected.abs().max().clamp(min=1)
            assert difference < 1e-4, name


@pytest.mark.parametrize(("file", "to"), [("model.pt2", "torch"), ("model.onnx", "onnx")])
def test_export_that_cannot_be_written_leaves_no_file(tmp_path, file, to):
    """Limit the size of files as a full disk does; torch's own writer would end the process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            exports.export(HTT(tiny_config().model, tiny_info()).eval(), tmp_path / file, to)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "how", [{}, {"model.action.cues": ["hands", "hand_type"], "model.pose.joint_depth": "virtual_camera"}]
)
def test_one_window_predicts_as_the_model_on_valid_frames(how):
    model = HTT(tiny_config(**how).model, tiny_info()).eval()
    one = _one(model)
    for frames in (1, 3, 4, 5, 9):
        batch = random_batch(model.info, [frames], seed=frames)
        with torch.inference_mode():
            wanted = model(batch.frames, batch.valid, batch.intrinsics)
            found = dict(zip(exports.OUTPUTS, one(batch.frames, batch.intrinsics[0]), strict=True))
        for name, values in found.items():
            expected = wanted.action_logits[0] if name == "action_logits" else getattr(wanted, name)
            torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def torch_file(trained) -> tuple[Path, str]:
    """An exported file, and what the command said."""
    file, said = trained.parent / "model.pt2", io.StringIO()
    with contextlib.redirect_stdout(said):
        run("--checkpoint", trained, "--to", "torch", "--out", file)
    return file, said.getvalue()


def test_torch_file_predicts_as_its_checkpoint(trained, torch_file):
    file, said = torch_file
    assert f"{file}  fp32, 2." in said
    assert "Largest difference from the checkpoint, for random images: " in said
    model, record = checkpoint.load(trained)
    exported = exports.load(file)
    assert exported.record == exports.Record("fp32", record.info)
    assert_equal(model, exported)


def test_torch_file_needs_no_code_of_the_project(torch_file, tmp_path):
    program = (
        "import sys, torch; made = torch.export.load(sys.argv[1]).module();"
        "found = made(torch.zeros(6, 3, 36, 64, dtype=torch.uint8), torch.eye(3));"
        "assert not any(name.split('.')[0] == 'htt' for name in sys.modules);"
        "print([list(each.shape) for each in found])"
    )
    words = [sys.executable, "-I", "-c", program, str(torch_file[0])]
    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said.strip() == "[[6, 42, 3], [6, 42, 2], [6, 42], [6, 42, 3], [6, 8], [36]]"


def test_fp16_export_keeps_only_the_pose_head_in_fp32(tmp_path):
    blocks = {"model.pose.block": "mean", "model.action.block": "identity"}
    model = checkpoint.load(save(tmp_path / "checkpoint", **FROZEN, **blocks))[0]
    exports.export(model, tmp_path / "model.pt2", "torch", "fp16")
    exported = exports.load(tmp_path / "model.pt2")
    stored = dict(exported.run.named_parameters())
    assert {str(values.dtype) for name, values in stored.items() if "pose_head" in name} == {"torch.float32"}
    assert {str(values.dtype) for name, values in stored.items() if "pose_head" not in name} == {"torch.float16"}
    assert 1e-6 < exports.largest_difference(model, exported) < 2e-3


@pytest.mark.slow
def test_onnx_files_predict_as_their_checkpoint(tmp_path, capsys):
    folder = save(tmp_path / "checkpoint", **FROZEN)
    for precision in ("fp32", "fp16", "int8"):
        words = ["--checkpoint", folder, "--to", "onnx", "--precision", precision]
        run(*words, "--out", tmp_path / f"{precision}.onnx")
    assert f"python -m htt.compare --checkpoint {folder}" in capsys.readouterr().out
    model, record = checkpoint.load(folder)
    files = {precision: tmp_path / f"{precision}.onnx" for precision in ("fp32", "fp16", "int8")}
    read = {precision: exports.load(file) for precision, file in files.items()}
    assert_equal(model, read["fp32"])
    assert 1e-6 < exports.largest_difference(model, read["fp16"]) < 2e-3
    sizes = {precision: file.stat().st_size for precision, file in files.items()}
    assert sizes["int8"] < 0.6 * sizes["fp32"]
    stored = {each.name for each in onnx.load(files["int8"]).graph.initializer}
    assert {"pose_head.layers.4.weight", "object_head.classify.weight", "action_head.weight"} <= stored
    assert {"features.to_width.weight", "action_input.join.weight"} & stored == set()
    val = open_named(prepare(record.config), "val", record.config.data)  # images, although training reads features
    errors = {name: evaluate(each, val, record.config).result()["hand_error_mm"] for name, each in read.items()}
    wanted = evaluate(model, val, record.config).result()["hand_error_mm"]
    assert errors["fp32"] == pytest.approx(wanted, rel=1e-4)
    assert errors["int8"] != errors["fp32"]
    assert errors["int8"] == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--to", "torch", "--out", "m.onnx"], "--out must end in .pt2 for --to torch; got 'm.onnx'"),
        (["--to", "onnx", "--out", "m"], "--out must end in .onnx for --to onnx; got 'm'"),
        (["--to", "torch", "--precision", "int8", "--out", "m.pt2"], "--precision int8 requires --to onnx"),
        (["--to", "torch", "--out", "m.pt2", "--checkpoint", "nowhere"], "No checkpoint in nowhere"),
        (["--to", "onnx", "--precision", "int8", "--out", "m.onnx", "--data", "none"], "none"),
    ],
)
def test_export_refuses_invalid_options(trained, refused, tmp_path, words, message):
    assert message in refused(export, "--checkpoint", trained, *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_export_refuses_models_with_given_cues_or_lstm(tmp_path):
    oracle = HTT(tiny_config(**{"model.action.given": ["hands"]}).model, tiny_info())
    with pytest.raises(ConfigError, match=r"model\.action\.given is hands: the model needs labels of its frames"):
        exports.export(oracle, tmp_path / "m.pt2", "torch")
    with pytest.raises(ConfigError, match=r"with model\.backbone.name resnet_tiny, model\.pose\.block lstm and"):
        exports.export(HTT(tiny_config(**{"model.pose.block": "lstm"}).model, tiny_info()), tmp_path / "m.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


def test_export_names_missing_packages_and_their_extra(trained, refused, monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if "onnx" in name else found(name, *a))
    said = refused(export, "--checkpoint", trained, "--to", "onnx", "--out", "m.onnx", cwd=tmp_path)
    assert "ONNX requires packages that are not installed: onnx, onnxruntime, onnxscript" in said
    assert "pip install -e '.[export]'" in said


def test_calibration_windows_are_of_training_clips_only(trained, cache):
    record = checkpoint.read(trained)
    given = list(exports.calibration_windows(record.config, trained))
    clips = open_named(prepare(record.config), "train", record.config.data)
    frames = [clips.decode(clip, np.arange(clips.frame_count(clip))) for clip in range(len(clips))]
    assert len(given) == len(frames)  # a window each
    assert all(torch.equal(window, wanted) for (window, _), wanted in zip(given, frames, strict=True))


def test_calibration_windows_refuse_data_of_another_size(trained, tmp_path):
    other = tiny_config(**SMALL, **{"data.synthetic.width": 80})
    prepare(other, workers=1)
    with pytest.raises(CheckpointError, match="was trained on other data: width 64 in the checkpoint, 80 in the data"):
        exports.calibration_windows(other, trained)


@pytest.mark.parametrize("name", ["model.pt2", "model.onnx", "model.txt"])
def test_load_names_a_file_that_is_no_exported_model(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"No exported model .*expected a file that python -m htt\.export wrote"):
        exports.load(tmp_path / name)
    (tmp_path / name).write_text("hello")
    with pytest.raises(CheckpointError, match=r"(Cannot read the|No) exported model .*python -m htt\.export"):
        exports.load(tmp_path / name)


def test_export_with_other_predictions_is_not_written(trained, monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "_program", lambda one: (one, ()))
    monkeypatch.setattr(torch.export, "save", lambda *_, **__: None)
    model, record = checkpoint.load(trained)
    other = HTT(model.config, model.info).eval()
    monkeypatch.setattr(exports, "load", lambda *_: exports.Exported(_one(other), exports.Record("fp32", record.info)))
    with pytest.raises(
        CheckpointError, match=r"differs from its checkpoint by .* at most 0.0001 is allowed. .*is not written"
    ):
        exports.export(model, tmp_path / "model.pt2", "torch")
    assert list(tmp_path.iterdir()) == []


def test_export_names_why_onnx_cannot_express_the_model(trained, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise NotImplementedError("no operator for aten.something\nand a long list")

    monkeypatch.setattr(exports, "_program", lambda one: one)
    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ConfigError) as said:
        exports.export(checkpoint.load(trained)[0], tmp_path / "model.onnx", "onnx")
    reason = "NotImplementedError: no operator for aten.something"
    assert str(said.value) == f"ONNX cannot express this model: {reason}. Use --to torch."
    assert list(tmp_path.iterdir()) == []


def _one(model: HTT) -> exports.OneWindow:
    one = exports.OneWindow(model.config, model.info).eval()
    one.load_state_dict(model.state_dict())
    return one
