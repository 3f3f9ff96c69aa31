"""Trainings that start from the weights of a checkpoint."""

import shutil

import pytest
import torch
from pyarrow import fs

from htt.config import override
from htt.data.loading import splits
from htt.data.prepare import prepare
from htt.data.store.remote import Remote
from htt.errors import CheckpointError
from htt.model.htt import HTT
from htt.testing import tiny_config, tiny_info
from htt.training import checkpoint, encoding, optim
from htt.training.checkpoint import Progress
from htt.training.loading import load_start
from htt.training.loop import evaluate, fit

FROZEN = {"model.backbone.weights": "rendered", "model.backbone.trained": False, "data.augment.views": 1}
RELEASED = {"model.backbone.trained": True, "data.augment.views": None}


def saved(config, info, folder):
    """Return a checkpoint of a new model."""
    model = HTT(config.model, info)
    moves = optim.optimizer(config.optim, model.parameters())
    return checkpoint.save(folder / "checkpoint", model, moves, Progress(1), config, info, {})


def started(config, info=None):
    model = HTT(config.model, info or tiny_info())
    load_start(model)
    return model


@pytest.fixture(scope="module")
def on_features(cache, tmp_path_factory):
    """Configuration, last metrics and checkpoint of a training on features."""
    config, folder, reports = tiny_config(**FROZEN), tmp_path_factory.mktemp("features"), []
    clips = splits.open_splits(encoding.encoded(config, workers=1), config.data)
    fit(config, clips, lambda metrics, _: reports.append(metrics), folder=folder)
    return config, reports[-1], folder / "checkpoint"


def test_whole_model_equals_training_on_features(on_features):
    """A trained encoder does not round its features to float16, so the numbers agree to that rounding."""
    config, metrics, folder = on_features
    whole = override(config, {**RELEASED, "model.weights": str(folder)})
    frames = splits.open_splits(prepare(whole), whole.data).val
    result = evaluate(started(whole, frames.info), frames, whole).result()
    assert result.keys() <= metrics.keys()
    assert {name: metrics[name] for name in result} == pytest.approx(result, rel=1e-3)
    assert result["action_accuracy"] == metrics["action_accuracy"]
    fixed = override(config, {"model.weights": str(folder)})
    exactly = evaluate(started(fixed, frames.info), frames, fixed).result()
    assert exactly == {name: metrics[name] for name in exactly}


def test_training_continues_end_to_end_from_the_checkpoint(on_features, tmp_path):
    config, _, folder = on_features
    whole = override(config, {**RELEASED, "model.weights": str(folder), "train.epochs": 1, "optim.lr": 1e-9})
    clips = splits.open_splits(prepare(whole), whole.data)
    model = fit(whole, clips, lambda *_: None, folder=tmp_path)
    before = checkpoint.load(folder)[0]
    for name, value in model.state_dict().items():
        assert torch.allclose(value, before.state_dict()[name], atol=1e-5), name
    name = "embedder.embedder.convolution.weight"
    first, last = (dict(each.features.backbone.network.named_parameters())[name] for each in (before, model))
    assert not torch.equal(first, last), "the encoder is trained, too"


def test_resumed_training_needs_no_initial_weights(on_features, tmp_path):
    config, _, folder = on_features
    start = tmp_path / "start"
    shutil.copytree(folder, start)
    whole = override(config, {**RELEASED, "model.weights": str(start), "train.epochs": 1})
    clips = splits.open_splits(prepare(whole), whole.data)
    fit(whole, clips, lambda *_: None, folder=tmp_path / "first")
    shutil.rmtree(start)
    longer = override(whole, {"train.epochs": 2})
    resumed = fit(longer, clips, lambda *_: None, folder=tmp_path / "second", resume=tmp_path / "first" / "checkpoint")
    assert not torch.equal(resumed.action_head.weight, checkpoint.load(folder)[0].action_head.weight)


def test_weights_in_an_object_store_are_fetched(tmp_path, monkeypatch):
    folder = saved(tiny_config(), tiny_info(), tmp_path)

    def opened(self, uri):
        assert uri == "s3://bucket/checkpoint"
        return fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "checkpoint"

    monkeypatch.setattr(Remote, "_open", opened)
    model = started(tiny_config(**{"model.weights": "s3://bucket/checkpoint"}))
    wanted = checkpoint.load(folder)[0].state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in model.state_dict().items())


def test_other_architecture_is_refused_with_its_fields(tmp_path):
    folder = saved(tiny_config(), tiny_info(), tmp_path)
    config = tiny_config(**{"model.weights": str(folder), "model.pose.depth": 2, "model.action.feedforward": 32,
                            "model.pose.dropout": 0.5})  # fmt: skip
    with pytest.raises(
        CheckpointError, match=r"another architecture: model\.pose\.depth 1 in the checkpoint, 2 here;"
    ) as e:
        started(config)
    assert "model.action.feedforward 64 in the checkpoint, 32 here" in str(e.value)
    assert "dropout" not in str(e.value)


def test_unsuitable_weights_are_refused_in_a_sentence_each(tmp_path):
    folder = saved(tiny_config(), tiny_info(), tmp_path)
    whole = tiny_config(**{"model.weights": str(folder)})
    with pytest.raises(CheckpointError, match=r"was trained on other data: hands 2 in the checkpoint, 1 in the data"):
        started(whole, tiny_info(hands=1))
    with pytest.raises(CheckpointError, match=r"frozen encoder of model\.backbone differs from that of the checkpoint"):
        started(override(whole, {"model.backbone.weights": "rendered", "model.backbone.trained": False}))
    missing = tiny_config(**{"model.weights": str(tmp_path / "none")})
    with pytest.raises(CheckpointError, match=r"Cannot start from model\.weights .*none: No checkpoint in .*none"):
        started(missing)
    (folder / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"Cannot start from model\.weights .*Damaged checkpoint") as caught:
        started(whole)
    assert type(caught.value) is CheckpointError, "a trial would look for an older checkpoint of its own"
