"""A model without an image encoder: block A alone, on joints of shards with images and of shards without."""

import json
from pathlib import Path

import polars as pl
import pytest
import torch

from htt import console, evaluate
from htt.config import Config, override
from htt.data.conversion.run import convert
from htt.data.conversion.state import Making
from htt.data.loading.clips import Clips, open_split
from htt.data.loading.loader import EvaluationLoader
from htt.data.location import data_key
from htt.data.prepare import prepare
from htt.data.shards import arrow, manifest
from htt.data.sources import open_source
from htt.errors import CheckpointError, ConfigError, DataError
from htt.evaluation.metric_table import EARLY, EVALUATED
from htt.evaluation.metrics import Evaluation
from htt.evaluation.scores import reservations, scores
from htt.inference import Predictor
from htt.losses import losses
from htt.model.htt import HTT
from htt.registry import preset
from htt.testing import TINY, random_batch, tiny_config, tiny_info
from htt.training import checkpoint
from htt.training.tasks import open_splits, prepare_search, train

ACTIONS = {"loss", "loss_action", "action_accuracy", "action_accuracy_hard"}
"""Metrics that such a model has, beside the early action on request."""
IMAGES = ("model.", "loss.", "optim.")


def poses_config(**overrides) -> Config:
    tiny = {path: value for path, value in TINY.items() if not path.startswith(IMAGES)}
    return override(preset("poses"), {**tiny, "model.width": 32, "model.action.feedforward": 32, **overrides})


@pytest.fixture(scope="module")
def root(cache, tmp_path_factory) -> Path:
    """The tiny benchmark as shards of poses."""
    out = tmp_path_factory.mktemp("poses")
    convert(open_source("synthetic", config=poses_config().data), out, Making(64, 36, quality=0), workers=1)
    return out


def trained(config: Config, folder: Path, resume: Path | None = None) -> dict[str, float]:
    """The metrics of the last epoch."""
    reports = []
    train(config, folder, lambda metrics, saved: reports.append(metrics), resume)
    return {name: value for name, value in reports[-1].items() if "seconds" not in name and name != "latency_ms"}


def test_shards_of_poses_hold_all_but_the_images(root, cache):
    made = manifest.read(root)
    assert made.poses_only
    frames, poses = open_split(prepare(poses_config(), workers=1), "train"), open_split(root, "train")
    assert arrow.open_shard(root / made.splits["train"][0].file).schema.equals(arrow.POSES.append(arrow.HAND_TYPES))
    for image, pose in zip(frames, poses, strict=True):
        assert (pose.id, pose.action, pose.group, pose.jpegs) == (image.id, image.action, image.group, [])
        assert pose.frame_numbers == image.frame_numbers
        assert (pose.joints_m == image.joints_m).all()
    with pytest.raises(DataError, match=r"Expected a folder of frames; .* holds poses, which have no images\."):
        poses.decode(0, [0])


def test_training_on_poses_equals_frames_and_reads_no_image(root, tmp_path, monkeypatch):
    monkeypatch.setattr(Clips, "decode_into", lambda *args: pytest.fail("an image was decoded"))
    frames = trained(poses_config(), tmp_path / "frames")
    assert trained(poses_config(**{"data.root": str(root)}), tmp_path / "poses") == frames
    given = {name for name in frames if name in EVALUATED}
    assert given == ACTIONS
    assert {name for name in frames if name.startswith("train_")} == {"train_action"}
    table = pl.read_parquet(tmp_path / "poses" / "checkpoint" / "clips.parquet")
    assert table["hand_error_mm"].is_null().all()
    assert table["object_accuracy"].is_null().all()


def test_loader_gives_no_images(root):
    config = poses_config(**{"data.root": str(root)})
    for clips in (open_split(root, "val"), open_split(prepare(poses_config(), workers=1), "val")):
        assert all(batch.frames.shape == (len(batch.frame), 0) for batch in EvaluationLoader(clips, config))


def test_interrupted_training_equals_an_uninterrupted_one(root, tmp_path):
    config = poses_config(**{"data.root": str(root)})
    once = trained(config, tmp_path / "once")
    short = trained(override(config, {"train.epochs": 1, "optim.schedule": "constant"}), tmp_path / "short")
    whole = override(config, {"optim.schedule": "constant"})
    resumed = trained(whole, tmp_path / "resumed", tmp_path / "short" / "checkpoint")
    assert resumed == trained(whole, tmp_path / "whole")
    assert short["epoch"] < once["epoch"]


@pytest.mark.slow
def test_training_on_two_workers_equals_one_worker(root, tmp_path, two_workers):
    config = poses_config(**{"data.root": str(root), "model.action.dropout": 0.0, "optim.name": "sgd"})
    trained(config, tmp_path / "one")
    one = checkpoint.load(tmp_path / "one" / "checkpoint")[0].state_dict()
    (tmp_path / "two").mkdir()
    for name, value in two_workers(config, tmp_path / "two").state_dict().items():
        torch.testing.assert_close(value, one[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("hands", [1, 2])
def test_model_sees_only_given_joints_and_every_parameter_learns(hands):
    info = tiny_info(hands)
    batch, config = random_batch(info), poses_config(**{"model.action.dropout": 0.0})
    torch.manual_seed(0)
    model = HTT(config.model, info)
    prediction = model(batch.frames[:, :0, 0, 0], batch.valid, batch.intrinsics, truth=batch.truth)
    with_images = model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth)
    torch.testing.assert_close(with_images.action_logits, prediction.action_logits)
    assert not prediction.has_frames
    losses(prediction, batch)["action"].value.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    moved = batch.truth._replace(joints_m=batch.joints_m + torch.tensor([0, 0, 0.1]))
    other = model(batch.frames, batch.valid, batch.intrinsics, truth=moved)
    assert not torch.allclose(other.action_logits, prediction.action_logits), "depth is seen, too"
    with pytest.raises(ConfigError, match=r"model\.action\.given is hands: the model needs the labels of its frames"):
        model(batch.frames, batch.valid, batch.intrinsics)
    with pytest.raises(CheckpointError, match=r"it has no image encoder \(model\.backbone\.name none\) and reads no"):
        Predictor(model, config)


def test_unknown_joints_and_objects_are_zeros_and_finite():
    info, changes = tiny_info(), {"model.action.cues": ["hands", "object"], "model.action.given": ["hands", "object"]}
    batch = random_batch(info)
    model = HTT(poses_config(**changes).model, info).eval()
    unknown = batch.truth._replace(
        joint_valid=torch.zeros_like(batch.joint_valid), object=torch.full_like(batch.object, -1)
    )
    whatever = unknown._replace(joints_m=batch.joints_m + 1, joints_px=batch.joints_px - 5)
    first, second = (
        model(batch.frames, batch.valid, batch.intrinsics, truth=each).action_logits for each in (unknown, whatever)
    )
    assert first.isfinite().all()
    assert torch.equal(first, second)


def test_evaluation_leaves_out_what_is_not_predicted():
    info, batch = tiny_info(), random_batch(tiny_info())
    config = poses_config()
    evaluation = Evaluation(info, config.loss)
    evaluation.update(HTT(config.model, info)(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth), batch)
    assert set(evaluation.result()) == ACTIONS
    found = scores(evaluation, "val", reservations=reservations(config), sees_images=False)
    assert {score.metric for score in found.scores} == ACTIONS
    assert found.curves == {}
    assert found.warnings == [
        "The model saw no images, but the hands of the data: it predicts neither hands nor objects, so their metrics "
        "are absent."
    ]
    both = override(config, {"model.action.cues": ["object"], "model.action.given": ["object"]})
    assert reservations(both)[0].endswith("The true object is a label: the accuracy of actions is an upper bound.")


def test_facts_before_a_search_name_what_cannot_be_measured(root):
    facts = prepare_search(poses_config(**{"data.root": str(root)}))
    assert facts.unknown == {}
    assert {*EVALUATED} - {*facts.unpredicted} == ACTIONS | {EARLY}
    assert set(facts.unpredicted.values()) == {"a model without an image encoder predicts neither hands nor objects"}
    assert facts.baselines == dict.fromkeys(("action_accuracy", "action_accuracy_hard", EARLY), 1 / 36)


def test_evaluate_says_what_is_absent_and_writes_no_zeros(root, tmp_path, capsys):
    trained(poses_config(**{"data.root": str(root)}), tmp_path)
    folder = tmp_path / "checkpoint"
    console.run(evaluate.Options, evaluate.main, ["--checkpoint", str(folder), "--split", "test"])
    printed = capsys.readouterr()
    assert "it predicts neither hands nor objects, so their metrics are absent." in printed.err
    assert "Hand error" not in printed.out
    report = (tmp_path / "evaluation-test" / "report.md").read_text()
    assert "not annotated" not in report
    assert "Hand" not in report
    metrics = json.loads((tmp_path / "evaluation-test" / "metrics.json").read_text())["metrics"]
    assert set(metrics) == ACTIONS | {EARLY}


FAULTS = {
    "feature cue": (
        {"model.action.cues": ["feature", "hands"]},
        "model.action.cues must be hands, object or both, got feature, hands; model.action.given must be equal to the "
        "cues, got hands. The preset",
    ),
    "cue that is not given": (
        {"model.action.cues": ["hands", "object"]},
        "model.action.given must be equal to the cues, got hands",
    ),
    "loss of hands": ({"loss.joints_px": 1.0}, "loss.joints_px must be 0, got 1"),
    "loss of depths": ({"loss.depth_m": 100.0}, "loss.depth_m must be 0, got 100"),
    "loss of objects": ({"loss.object": 0.5}, "loss.object must be 0, got 0.5"),
    "block P": ({"model.pose.block": "lstm"}, "model.pose.block must be identity, got lstm"),
    "weights": ({"model.backbone.weights": "rendered"}, "name none is no encoder, which could have weights"),
    "frozen": ({"model.backbone.trained": False}, "name none is no encoder, which could have weights or be frozen"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_invalid_combination_is_one_fault(fault):
    changes, message = FAULTS[fault]
    with pytest.raises(ConfigError) as caught:
        poses_config(**changes)
    assert message in str(caught.value)
    assert len(caught.value.faults) == 1


def test_default_without_encoder_lists_all_needed_changes():
    with pytest.raises(ConfigError) as caught:
        override(Config(), {"model.backbone.name": "none"})
    (text,) = caught.value.faults
    assert text.startswith("model.backbone.name none trains block A alone, on given joints or objects: ")
    for path in ("pose.block", "action.cues", "action.given", "joints_px", "depth_m", "loss.object"):
        assert path in text
    assert text.endswith("The preset and the space poses have these values")


def test_image_encoder_on_shards_of_poses_is_refused(root):
    config = tiny_config(**{"data.root": str(root)})
    for act in (prepare, data_key):
        with pytest.raises(DataError, match=r"holds poses without images, and the image encoder resnet_tiny needs"):
            act(config)


def test_data_without_joints_are_refused(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(Clips, "hand_valid", lambda clips, clip: no_hand(clips, clip))
    with pytest.raises(DataError, match=r"sees the given hands alone, but in split 'train' no frame of these"):
        open_splits(poses_config())


def no_hand(clips, clip):
    """No hand is in any frame."""
    return clips._view(clip).hand_valid & False
