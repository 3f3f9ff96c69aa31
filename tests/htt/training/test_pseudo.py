"""Pseudo-labels: where a teacher gives them, what they add to a training, and that resuming changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from htt.batch import Layout
from htt.config import Config, LossConfig, PseudoConfig, override
from htt.data.loading.loader import TrainingLoader
from htt.data.loading.splits import Splits
from htt.data.shards import arrow, manifest
from htt.info import UNKNOWN
from htt.losses import PSEUDO, SURE, TERMS, counts_of, counts_of_labels, losses, pseudo_losses, total
from htt.model.htt import HTT
from htt.testing import random_batch, random_prediction, tiny_config, tiny_info
from htt.training import checkpoint, optim, pseudo
from htt.training.augment import augment
from htt.training.encoding import data_folder
from htt.training.loop import train_step
from htt.training.pseudo import Pseudo, pseudo_labels
from htt.training.saving import Saving
from htt.training.tasks import open_splits

TAUGHT = {
    "data.labelled": 0.25,
    "data.unlabelled": "pseudo_labels",
    "train.ema": 0.9,
    "pseudo.confidence": 0.0,
    "pseudo.agreement_mm": 1000.0,
    "pseudo.ramp": 0.0,
}
FEATURES = {"model.backbone.trained": False, "model.backbone.weights": "rendered", "data.augment.views": 2}


class FixedTeacher(torch.nn.Module):
    """Teacher whose predictions are given, one for each call."""

    def __init__(self, predictions):
        super().__init__()
        self.predictions = list(predictions)

    def forward(self, frames, valid, intrinsics, layout):
        assert layout.counts == tuple(valid.sum(dim=1).tolist())
        return self.predictions.pop(0)


def partly(splits, known=(0, 2)):
    """The same splits with the labels of some training clips alone."""
    labelled = np.isin(np.arange(len(splits.train)), known)
    return Splits(splits.train.with_labels(labelled), splits.val)


def assert_same_weights(first, second):
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.fixture
def taught():
    """A batch of a labelled and an unlabelled window, the latter three times, and predictions for its two views."""
    info = tiny_info(1)
    batch = random_batch(info, [3, 2, 2, 2])
    first = torch.arange(9) < 3
    batch = replace(
        batch,
        labelled=torch.tensor([True, False, False, False]),
        action=torch.where(torch.arange(4) < 1, batch.action, UNKNOWN),
        object=torch.where(first, batch.object, UNKNOWN),
        joint_valid=batch.joint_valid & first[:, None],
        joints_px=torch.where(first[:, None, None], batch.joints_px, 0.0),
        joints_m=torch.where(first[:, None, None], batch.joints_m, 0.0),
    )
    view = batch.cut([1, 1, 1, 1], [3, 2, 2, 2])[1]
    prediction = random_prediction(info, view)
    return batch, prediction


def labels_of(batch, seen, predictions, **limits):
    config = override(Config(), {f"pseudo.{name}": value for name, value in limits.items()})
    return pseudo_labels(batch, seen, FixedTeacher(predictions), config)


def test_pseudo_labels_are_means_of_the_views_in_unlabelled_windows(taught):
    batch, prediction = taught
    other = replace(prediction, depth_m=prediction.depth_m + 0.002)
    own, labels = labels_of(batch, batch, [prediction, other], confidence=0.0, agreement_mm=1000.0)
    assert own.valid.shape[0] == 2
    assert torch.equal(own.joints_px, batch.joints_px[:5])
    assert not labels.joint_valid[:3].any()
    assert labels.joint_valid[3:].all()
    torch.testing.assert_close(labels.joints_px[3:], prediction.joints_px)
    torch.testing.assert_close(labels.joints_m[3:, :, 2], prediction.depth_m + 0.001)
    assert labels.action.tolist() == [UNKNOWN, int(prediction.action_logits.argmax())]
    assert labels.object.tolist() == [UNKNOWN] * 3 + prediction.object_logits.argmax(dim=1).tolist()


def test_pseudo_labels_move_with_the_image_of_the_model(taught):
    batch, prediction = taught
    shifts = torch.tensor([4.0, 1.0, -2.0]).repeat_interleave(2)  # of the model's window and of the two views
    moved = batch.joints_px.clone()
    moved[3:, :, 0] += shifts[:, None]
    by = torch.tensor([1.0, 0.0])
    views = [replace(prediction, joints_px=prediction.joints_px + shift * by) for shift in (1.0, -2.0)]
    _, labels = labels_of(batch, replace(batch, joints_px=moved), views, agreement_mm=0.1)
    torch.testing.assert_close(labels.joints_px[3:], prediction.joints_px + 4 * by, rtol=1e-5, atol=1e-4)
    assert labels.joint_valid[3:].all()  # both views say the same of the unmoved image


def test_pseudo_labels_need_agreement_in_space_and_confidence(taught):
    batch, prediction = taught
    depth = prediction.depth_m.clone()
    depth[:, 0] += 0.012  # more than 10 mm along the ray
    px = prediction.joints_px.clone()
    px[:, 1, 0] += 0.012 / prediction.depth_m[:, 1] * batch.intrinsics[0, 0, 0]  # 12 mm to the side
    px[:, 2, 0] += 0.008 / prediction.depth_m[:, 2] * batch.intrinsics[0, 0, 0]
    logits = torch.tensor([[4.0, 0.0, 0.0, 0.0]])  # 0.948 for the first class
    steady = replace(prediction, action_logits=logits, object_logits=torch.tensor([[3.0, 0, 0], [0.0, 9.0, 0]]))
    unsteady = replace(steady, depth_m=depth, joints_px=px)
    _, labels = labels_of(batch, batch, [steady, unsteady])
    assert labels.joint_valid[3:].all(dim=0).tolist() == [False, False, *[True] * 19]
    assert labels.action.tolist() == [UNKNOWN, UNKNOWN]
    assert labels.object[3:].tolist() == [UNKNOWN, 1]
    _, labels = labels_of(batch, batch, [steady, unsteady], confidence=0.94)
    assert labels.action.tolist() == [UNKNOWN, 0]
    opposite = replace(steady, action_logits=logits.flip(1))
    assert labels_of(batch, batch, [steady, opposite], confidence=0.6)[1].action.tolist() == [UNKNOWN, UNKNOWN]


def test_pseudo_losses_are_over_all_that_could_be_labels(taught):
    batch, prediction = taught
    own, labels = labels_of(batch, batch, [prediction, prediction], confidence=0.0, agreement_mm=1.0)
    labels = replace(labels, joint_valid=labels.joint_valid & (torch.arange(21) < 7))
    student = random_prediction(tiny_info(1), own, seed=5)
    means = pseudo_losses(student, labels)
    assert tuple(means) == PSEUDO + SURE
    plain = losses(student, labels)
    for term in ("object", "action"):
        torch.testing.assert_close(means[f"pseudo_{term}"].value, plain[term].value)
    for term in ("joints_px", "depth_m"):
        torch.testing.assert_close(means[f"pseudo_{term}"].value, plain[term].value / 3)
    assert [float(means[name].value) for name in SURE] == pytest.approx([1 / 3, 1, 1])
    terms = losses(student, own) | means
    assert torch.equal(counts_of_labels(own, hand_types=True, pseudo=labels), counts_of(terms))
    weights = LossConfig(joints_px=2.0, depth_m=3.0, object=5.0, action=7.0)
    given = [name.removeprefix("pseudo_") for name in PSEUDO]
    alone = total({name: terms[name] for name in TERMS}, weights)
    added = total({name: terms[f"pseudo_{name}"] for name in given}, weights)
    torch.testing.assert_close(total(terms, weights, None, 0.5), alone + 0.5 * added)


def test_weight_rises_linearly_over_the_ramp():
    config = override(Config(), {"pseudo.weight": 2.0, "pseudo.ramp": 0.5})
    assert [pseudo.weight(config, step, 8) for step in range(6)] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
    assert pseudo.weight(override(config, {"pseudo.ramp": 0.0}), 0, 8) == 2.0


def test_parts_take_the_step_of_the_whole_batch(taught):
    batch, prediction = taught
    own, labels = labels_of(batch, batch, [prediction, prediction], confidence=0.0)
    states = []
    for parts in (1, 2):
        config = tiny_config(**{"train.parts": parts, "optim.name": "sgd", "optim.lr": 1e-3})
        torch.manual_seed(0)
        model = HTT(config.model, tiny_info(1))
        terms = train_step(
            model, own, optim.optimizer(config.optim, model.parameters()), config, pseudo=Pseudo(labels, 1.0)
        )
        states.append(({name: float(mean.value) for name, mean in terms.items()}, model.state_dict()))
    assert states[0][0] == pytest.approx(states[1][0], rel=1e-5)
    for name, value in states[0][1].items():
        torch.testing.assert_close(value, states[1][1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("views", [None, 3])
def test_loader_gives_the_windows_of_other_clips_three_times(tiny_splits, views):
    config = tiny_config(**{**TAUGHT, "data.augment.views": views, "train.batch_size": 2})
    splits = partly(tiny_splits)
    loader = TrainingLoader(splits.train, config)
    assert loader.step_windows == 4
    plain = TrainingLoader(tiny_splits.train, tiny_config(**{"train.batch_size": 2}))
    assert loader.steps_per_epoch == plain.steps_per_epoch == len(list(loader.epoch(0)))
    for batch in loader.epoch(1):
        assert batch.labelled.tolist() == [True] * 2 + [False] * 6
        assert set(batch.clip[:2].tolist()) <= {0, 2}
        assert set(batch.clip[2:].tolist()) <= {1, 3}
        assert (batch.action == UNKNOWN).tolist() == [False] * 2 + [True] * 6
        own, *again = (batch.clip[2:4], batch.clip[4:6], batch.clip[6:])
        assert all(torch.equal(own, each) for each in again)
        seeds = batch.view[2:].reshape(3, 2).T.tolist()
        if views:
            assert all(len(set(three)) == 3 for three in seeds)
            assert all(seed != 0 for seed, _, _ in seeds)  # the model never sees the plain clip
        seen = augment(batch, config.data.augment, torch.Generator().manual_seed(0), Layout.of(batch.valid, 4))
        three = seen.cut([2, 2, 2, 2], batch.valid.sum(dim=1).tolist())[1:]
        assert all(not torch.equal(three[0].frames, each.frames) for each in three[1:])
        assert not torch.equal(three[1].frames, three[2].frames)


def test_fit_learns_from_clips_without_labels(tiny_splits, tmp_path, train):
    config = tiny_config(**TAUGHT)
    reports, model = train(config, partly(tiny_splits), tmp_path / "taught")
    _, alone = train(override(config, {"data.unlabelled": "ignore"}), partly(tiny_splits), tmp_path / "alone")
    assert all(reports[-1][f"train_{name}"] == 1.0 for name in SURE)  # limits that everything passes
    assert all(reports[-1][f"train_{name}"] > 0 for name in PSEUDO)
    assert not torch.equal(model.pose_head.layers[0].weight, alone.pose_head.layers[0].weight)


def test_resumed_training_continues_with_the_same_teacher(tiny_splits, tmp_path, train):
    config = tiny_config(**TAUGHT, **{"train.epochs": 3, "model.pose.dropout": 0.2})
    reports, undisturbed = train(config, partly(tiny_splits), tmp_path / "whole")
    train(config, partly(tiny_splits), tmp_path / "parts", stop_after=1)
    resumed_reports, resumed = train(
        config, partly(tiny_splits), tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint"
    )
    assert_same_weights(undisturbed, resumed)
    names = [f"train_{name}" for name in PSEUDO + SURE]
    assert [[each[name] for name in names] for each in resumed_reports] == [
        [each[name] for name in names] for each in reports[1:]
    ]


def test_training_resumes_within_an_epoch_with_the_same_teacher(tiny_splits, tmp_path, train):
    config = tiny_config(**TAUGHT, **{"train.epochs": 1, "train.batch_size": 1})
    _, undisturbed = train(config, partly(tiny_splits), tmp_path / "whole")
    assert checkpoint.read(tmp_path / "whole" / "checkpoint").progress.epoch == 1

    class KilledError(Exception):
        pass

    def keep(saved):
        if checkpoint.read(saved).progress.cursor == 3 * 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(config, partly(tiny_splits), tmp_path / "cut", saving=Saving(keep, lambda: False, every_s=0.0))
    _, resumed = train(config, partly(tiny_splits), tmp_path / "cut", resume=tmp_path / "cut" / "checkpoint")
    assert_same_weights(undisturbed, resumed)


@pytest.fixture(scope="module")
def few_actions(tiny_splits, tmp_path_factory):
    """Shards of the tiny clips, four times, with two actions."""
    root = tmp_path_factory.mktemp("few")
    splits = {"train": tiny_splits.train, "val": tiny_splits.val}
    entries = {}
    for split, clips in splits.items():
        writer = arrow.ShardWriter(root, split)
        copies = [replace(each, id=f"{turn}-{each.id}", group="") for turn in range(4) for each in clips]
        done = [writer.add(replace(each, action=place % 2)) for place, each in enumerate(copies)]
        entries[split] = [shard for shard in [*done, writer.close()] if shard]
    info = tiny_splits.info
    made = manifest.Manifest(
        source="few", actions=list(info.actions), objects=list(info.objects), hands=info.hands, width=info.width,
        height=info.height, quality=92, pixels="rendered", splits=entries, wanted={}, labels=None,
        hand_types=list(info.hand_types),
    )  # fmt: skip
    manifest.write(root, made)
    return {"data.source": "few", "data.root": str(root)}


@pytest.mark.parametrize("kind", ["pseudo_labels", "actions"])
def test_two_workers_equal_one(two_workers, few_actions, tmp_path, kind, train):
    how = {"optim.name": "sgd", "optim.lr": 1e-3, "train.batch_size": 3, "train.epochs": 1}
    config = tiny_config(**{**TAUGHT, **FEATURES, **how, **few_actions, "data.unlabelled": kind})
    data_folder(config, workers=1)  # several would start a Ray
    together = two_workers(config, tmp_path)
    reports, alone = train(config, open_splits(config), tmp_path / "alone")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    merged = checkpoint.read(tmp_path / "checkpoint").metrics
    names = [f"train_{name}" for name in (*TERMS[:4], *(PSEUDO + SURE if kind == "pseudo_labels" else ()))]
    assert {name: merged[name] for name in names} == pytest.approx(
        {name: reports[-1][name] for name in names}, rel=1e-4
    )


def test_weightless_pseudo_labels_leave_the_training_on_labelled_clips(few_actions, tmp_path, train):
    """All kinds of ``data.unlabelled`` see the same labelled windows and copies in the same steps."""
    how = {"optim.name": "sgd", "optim.lr": 1e-3, "train.batch_size": 3, "train.epochs": 1, "pseudo.weight": 0.0}
    config = tiny_config(**{**TAUGHT, **FEATURES, **how, **few_actions})
    data_folder(config, workers=1)
    (_, taught), (_, alone) = (
        train(each, open_splits(each), tmp_path / each.data.unlabelled)
        for each in (config, override(config, {"data.unlabelled": "ignore"}))
    )
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(taught.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_defaults_have_no_pseudo_terms(tiny_splits, tmp_path, train):
    reports, _ = train(tiny_config(), tiny_splits, tmp_path)
    assert not [name for name in reports[-1] if name.startswith(("train_pseudo", "train_sure"))]
    assert PseudoConfig().weight == 1.0
