"""``python -m htt.publish``: a folder that loads by its path or a hub name, with a card of numbers and intervals."""

import functools
import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from transformers import ViTConfig, ViTModel

from htt import config, console, evaluate, export, predict, publish
from htt.errors import CheckpointError
from htt.inference import Predictor
from htt.model.htt import HTT
from htt.model.weights import RECORD
from htt.testing import tiny_config, tiny_info
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress
from htt.training.loading import load_start


@pytest.fixture
def run(run_command):
    return functools.partial(run_command, publish)


def test_published_model_predicts_as_its_checkpoint(run, trained, clip, tmp_path):
    shown = run("--checkpoint", trained, "--out", tmp_path / "model", "--licence", "mit")
    names = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert names == ["README.md", "checkpoint.json", "config.yaml", "model.safetensors"]
    expected = Predictor.load(trained)(*clip)
    np.testing.assert_array_equal(Predictor.load(tmp_path / "model")(*clip).joints_m, expected.joints_m)
    assert "read and complete it before you share the folder" in shown
    assert "the card has no intervals" in shown


def test_published_model_is_loaded_by_a_hub_name(run, trained, clip, tmp_path, monkeypatch):
    run("--checkpoint", trained, "--out", tmp_path / "model")
    asked = []

    def download(name, file, local_files_only):
        asked.append((name, file))
        return str(tmp_path / "model" / file)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert Predictor.load("someone/hands")(*clip).joints_m.shape[1:] == (42, 3)
    assert asked == [("someone/hands", "model.safetensors"), ("someone/hands", "checkpoint.json")]


def test_card_has_numbers_with_intervals(run, trained, tmp_path):
    model = shutil.copytree(trained, tmp_path / "run" / "checkpoint")
    console.run(evaluate.Options, evaluate.main, ["--checkpoint", str(model), "--split", "test"])
    shown = run("--checkpoint", model, "--out", tmp_path / "model", "--licence", "mit")
    assert f"Numbers of {tmp_path}/run/evaluation-test" in shown
    card = (tmp_path / "model" / "README.md").read_text()
    header = yaml.safe_load(card.split("---")[1])
    assert header["license"] == "mit"
    metrics = json.loads((tmp_path / "run" / "evaluation-test" / "metrics.json").read_text())["metrics"]
    hand = metrics["hand_error_mm"]
    assert f"| {hand['value']:.1f} mm | {hand['low']:.1f} to {hand['high']:.1f} mm |" in card
    assert "Split `test`: 2 clips" in card
    for words in ("## Data", "## Intended use and limits", "Licence of the weights: mit.", "open milk", "15 frames/s"):
        assert words in card
    assert "loss" not in card


def test_card_without_evaluation_has_the_metrics_of_the_training(run, save, tmp_path):
    model = save(tmp_path / "checkpoint", tiny_config(), tiny_info(hands=1), {"hand_error_mm": 31.25, "loss": 2.0})
    run("--checkpoint", model, "--out", tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "without intervals; the model may have been chosen by them" in card
    assert "31.2 mm |" in card
    assert "21 joints of the right hand" in card
    assert "The licence of the weights is not stated" in card


def test_paths_of_this_machine_are_not_published(run, save, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "encoder.safetensors").write_text("")
    paths = {
        "data.root": str(tmp_path / "secret" / "shards"),
        "model.weights": str(tmp_path / "secret" / "start"),
        "model.backbone.weights": str(tmp_path / "secret" / "encoder.safetensors"),
        "model.backbone.trained": False,
        "runtime.cache": str(tmp_path / "secret" / "cache"),
    }
    model = save(tmp_path / "checkpoint", tiny_config(**paths), tiny_info())
    run("--checkpoint", model, "--out", tmp_path / "model")
    for path in (tmp_path / "model").iterdir():
        assert b"secret" not in path.read_bytes(), path
    found = config.read(tmp_path / "model" / "config.yaml")
    assert found == checkpoint.read(tmp_path / "model").config
    assert found.model.backbone.weights == "encoder.safetensors"
    assert found.model.width == 32


def test_training_can_start_from_a_published_model(run, trained, tmp_path):
    run("--checkpoint", trained, "--out", tmp_path / "model")
    published, record = checkpoint.load(tmp_path / "model")
    new = HTT(config.override(record.config.model, {"weights": str(tmp_path / "model")}), record.info)
    load_start(new)
    for name, value in published.state_dict().items():
        assert torch.equal(new.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["the folder", "someone/vit"])
def test_model_with_an_encoder_of_the_hub_loads_without_the_hub(run, clip, tmp_path, monkeypatch, name):
    """The encoder's settings are in the checkpoint. Its folder is gone, and every question to the hub is an error."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vit = tmp_path / "secret" / "vit"
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=16)).save_pretrained(vit)
    means = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (vit / "preprocessor_config.json").write_text(json.dumps(means))
    built = tiny_config(**{"model.backbone.name": str(vit)})
    torch.manual_seed(0)
    model = HTT(built.model, tiny_info())
    named = built if name == "the folder" else config.override(built, {"model.backbone.name": name})
    moves = optim.optimizer(named.optim, model.parameters())
    saved = checkpoint.save(tmp_path / "checkpoint", model, moves, Progress(1), named, tiny_info(), {})
    shutil.rmtree(tmp_path / "secret")
    monkeypatch.setattr("htt.model.backbones._hub._fetched", lambda *_: pytest.fail("the hub was asked"))
    run("--checkpoint", saved, "--out", tmp_path / "model")
    found = Predictor.load(tmp_path / "model")
    np.testing.assert_array_equal(found(*clip).joints_m, Predictor(model, named, "cpu")(*clip).joints_m)
    kept = checkpoint.read(tmp_path / "model").config.model.backbone.name
    assert kept == ("./vit" if name == "the folder" else name)
    assert all(b"secret" not in path.read_bytes() for path in (tmp_path / "model").iterdir())
    assert run_export(tmp_path / "model", tmp_path / "model.pt2")


def run_export(model, file):
    """Export a model by the command, and return whether the file was written."""
    console.run(export.Options, export.main, ["--checkpoint", str(model), "--to", "torch", "--out", str(file)])
    return file.is_file()


def test_changed_weights_are_noticed(run, trained, tmp_path):
    run("--checkpoint", trained, "--out", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match="Damaged checkpoint"):
        Predictor.load(tmp_path / "model")


def test_bad_input_is_refused_in_a_sentence(run, trained, save, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")
    assert "has files. Choose another name." in run("--checkpoint", trained, "--out", full, code=2)
    assert (full / "thesis.tex").read_text() == "years of work"
    assert "No checkpoint in" in run("--checkpoint", tmp_path / "none", "--out", tmp_path / "a", code=2)
    shown = run("--checkpoint", trained, "--out", tmp_path / "a", "--evaluation", full, code=2)
    assert "Give a folder that python -m htt.evaluate wrote" in shown
    (full / "metrics.json").write_text(json.dumps({"source": "h2o", "split": "val", "metrics": {}}))
    shown = run("--checkpoint", trained, "--out", tmp_path / "a", "--evaluation", full, code=2)
    assert "is of h2o, and the model is of synthetic" in shown
    assert not (tmp_path / "a").exists()


def test_next_command_of_a_published_model_can_be_parsed(run, trained, encode, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("--checkpoint", trained, "--out", "model")
    encode(tmp_path / "a.mp4", clip[0], 15)
    console.run(predict.Options, predict.main, ["--checkpoint", "model", "--video", "a.mp4", "--no-overlay"])
    assert (tmp_path / "predictions-a" / "predictions.parquet").exists()
    assert json.loads((tmp_path / "model" / RECORD).read_text())["sha256"].keys() == {"model.safetensors", RECORD}, (
        "a card can be edited"
    )
