"""Distillation: what a teacher adds to the loss, which teachers are refused, and that resuming changes nothing."""

import math
import signal
import subprocess
import sys

import pytest
import torch

from htt.config import AugmentConfig, Config, DistillConfig, LossConfig, to_yaml
from htt.data.loading.loader import TrainingLoader
from htt.errors import CheckpointError
from htt.losses import DISTILLED, TERMS, counts_of, distillation, losses, share, total
from htt.model.htt import HTT
from htt.testing import random_batch, random_prediction, tiny_config, tiny_info
from htt.training import checkpoint, optim
from htt.training.checkpoint import Progress
from htt.training.encoding import data_folder
from htt.training.loading import open_teacher
from htt.training.loop import train_step
from htt.training.tasks import open_splits

FROZEN = {"model.backbone.trained": False, "model.backbone.weights": "rendered"}
SMALL = {"model.width": 16, "model.pose.feedforward": 32, "model.action.feedforward": 32}
NO_AUGMENTATION = {f"data.augment.{name}": 0.0 for name in AugmentConfig.model_fields if name != "views"}


def save(folder, info, config=None, seed=7):
    config = config or tiny_config()
    torch.manual_seed(seed)
    model = HTT(config.model, info)
    optimizer = optim.optimizer(config.optim, model.parameters())
    return checkpoint.save(folder, model, optimizer, Progress(1), config, info, {})


@pytest.fixture(scope="module")
def teacher(tiny_splits, tmp_path_factory):
    return save(tmp_path_factory.mktemp("teacher") / "checkpoint", tiny_splits.info)


def student(teacher, **changes) -> Config:
    return tiny_config(**{"distill.teacher": str(teacher), **SMALL, **changes})


def test_distillation_terms_are_divergence_and_distances():
    info = tiny_info()
    batch = random_batch(info, [3, 2])
    own, soft = (random_prediction(info, batch, seed=seed) for seed in (0, 1))
    means = distillation(own, soft, batch, 2.0)
    assert tuple(means) == DISTILLED
    wanted, predicted = ((each.action_logits / 2).softmax(dim=1) for each in (soft, own))
    divergence = (wanted * (wanted.log() - predicted.log())).sum(dim=1).mean()
    torch.testing.assert_close(means["teacher_action"].value, 4 * divergence)
    torch.testing.assert_close(means["teacher_joints_px"].value, (own.joints_px - soft.joints_px).abs().mean())
    torch.testing.assert_close(means["teacher_depth_m"].value, (own.depth_m - soft.depth_m).abs().mean())
    same = distillation(own, own, batch, 2.0)
    assert [float(mean.value) for mean in same.values()] == pytest.approx([0, 0, 0], abs=1e-6)


def test_total_weights_the_terms_of_a_teacher():
    info = tiny_info()
    batch = random_batch(info)
    own, soft = (random_prediction(info, batch, seed=seed) for seed in (0, 1))
    means = losses(own, batch) | distillation(own, soft, batch, 2.0)
    weights, distill = LossConfig(joints_px=2.0, depth_m=30.0), DistillConfig(action=5.0, pose=0.5)
    added = 1.0 * means["teacher_joints_px"].value + 15 * means["teacher_depth_m"].value
    added = added + 5 * means["teacher_action"].value
    labelled = total({term: means[term] for term in TERMS}, weights)
    torch.testing.assert_close(total(means, weights, distill), labelled + added)
    counts = counts_of(means)
    assert len(counts) == len(TERMS) + len(DISTILLED)
    torch.testing.assert_close(total(share(means, counts, 1), weights, distill), total(means, weights, distill))


def test_distillation_leaves_out_joints_without_label():
    info = tiny_info()
    batch = random_batch(info)
    batch.joint_valid[:] = False
    own, soft = (random_prediction(info, batch, seed=seed) for seed in (0, 1))
    means = distillation(own, soft, batch, 1.0)
    assert means["teacher_joints_px"].value == means["teacher_depth_m"].value == 0
    assert means["teacher_action"].value > 0


def test_train_step_moves_the_student_but_not_the_teacher(tiny_splits, teacher):
    config = student(teacher, **{"loss.joints_px": 0.0, "loss.depth_m": 0.0, "loss.object": 0.0, "loss.action": 0.0,
                                 "optim.lr": 3e-3, "model.pose.dropout": 0.5})  # fmt: skip
    batch = random_batch(tiny_splits.info, [5, 8])
    torch.manual_seed(0)
    model = HTT(config.model, tiny_splits.info)
    helper = open_teacher(config, model)
    assert not helper.training
    assert not any(each.requires_grad for each in helper.parameters())
    before = {name: value.clone() for name, value in helper.state_dict().items()}
    optimizer = optim.optimizer(config.optim, model.parameters())
    terms = [train_step(model, batch, optimizer, config, teacher=helper) for _ in range(30)]
    assert terms[-1]["teacher_action"].value < 0.3 * terms[0]["teacher_action"].value
    assert not helper.training
    assert all(torch.equal(value, before[name]) for name, value in helper.state_dict().items())


def test_fit_with_a_teacher_reports_terms_and_changes_weights(tiny_splits, teacher, tmp_path, train):
    reports, taught = train(student(teacher), tiny_splits, tmp_path / "taught")
    plain_reports, plain = train(student(None, **{"distill.teacher": None}), tiny_splits, tmp_path / "plain")
    assert {f"train_{term}" for term in DISTILLED} <= reports[-1].keys()
    assert not {f"train_{term}" for term in DISTILLED} & plain_reports[-1].keys()
    assert all(math.isfinite(reports[-1][f"train_{term}"]) for term in DISTILLED)
    assert not torch.equal(taught.action_head.weight, plain.action_head.weight)


def test_resumed_distillation_equals_an_uninterrupted_one(tiny_splits, teacher, tmp_path, train):
    config = student(teacher, **{"train.epochs": 3, "model.pose.dropout": 0.2})
    reports, undisturbed = train(config, tiny_splits, tmp_path / "whole")
    train(config, tiny_splits, tmp_path / "parts", stop_after=1)
    resumed_reports, resumed = train(config, tiny_splits, tmp_path / "parts", resume=tmp_path / "parts" / "checkpoint")
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert [report["train_teacher_action"] for report in resumed_reports] == [
        report["train_teacher_action"] for report in reports[1:]
    ]


def test_distillation_on_two_workers_equals_one_worker(two_workers, tiny_splits, teacher, tmp_path, train):
    how = {"optim.name": "sgd", "optim.lr": 1e-3, "train.batch_size": 3, "train.epochs": 1, **NO_AUGMENTATION}
    config = student(teacher, **how)
    together = two_workers(config, tmp_path)
    reports, alone = train(config, tiny_splits, tmp_path / "alone")
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    merged = checkpoint.read(tmp_path / "checkpoint").metrics
    for term in DISTILLED:
        assert merged[f"train_{term}"] == pytest.approx(reports[-1][f"train_{term}"], rel=1e-4), term


def test_open_teacher_refuses_other_classes_or_hands(tiny_splits, tmp_path):
    other = save(tmp_path / "other", tiny_info(hands=1))
    model = HTT(tiny_config().model, tiny_splits.info)
    with pytest.raises(
        CheckpointError, match=r"^distill\.teacher .* was trained on other data: .*hands 1 in the"
    ) as said:
        open_teacher(student(other), model)
    assert "actions 4 with 'pour' in the checkpoint" in str(said.value)


def test_open_teacher_refuses_a_missing_or_damaged_checkpoint(tiny_splits, tmp_path):
    model = HTT(tiny_config().model, tiny_splits.info)
    with pytest.raises(CheckpointError, match=r"Cannot learn from distill\.teacher .*: No checkpoint in"):
        open_teacher(student(tmp_path / "none"), model)
    damaged = save(tmp_path / "damaged", tiny_splits.info)
    (damaged / checkpoint.MODEL).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"Cannot learn from distill\.teacher .*: Damaged checkpoint"):
        open_teacher(student(damaged), model)


def test_open_teacher_on_features_needs_the_same_frozen_encoder(tmp_path, teacher, train):
    config = student(teacher, **FROZEN, **{"data.augment.views": 0, "train.epochs": 1})
    data_folder(config, workers=1)  # several would start a Ray
    splits = open_splits(config)
    with pytest.raises(
        CheckpointError, match=r"The encoder of distill\.teacher .* is not model\.backbone, whose stored"
    ):
        train(config, splits, tmp_path / "refused")
    frozen = save(tmp_path / "frozen", splits.info, tiny_config(**FROZEN))
    config = student(frozen, **FROZEN, **{"data.augment.views": 0, "train.epochs": 1})
    reports, _ = train(config, splits, tmp_path / "taught")
    assert reports[-1]["train_teacher_action"] > 0


KILLED = """
import sys, torch
from pathlib import Path
torch.set_num_threads(1)  # as the process that resumes: sums in another order would be other numbers
from htt.config import read
from htt.training import loop
from htt.training.tasks import train
folder, whole, steps = Path(sys.argv[1]), loop.train_step, []
def train_step(*arguments, **options):
    steps.append(None)
    if len(steps) > int(sys.argv[2]):
        print("blocked", flush=True)
        sys.stdin.read()  # until it is killed
    return whole(*arguments, **options)
loop.train_step = train_step
train(read(folder / "config.yaml"), folder, lambda *_: None)
"""


def test_killed_distillation_resumes_to_equal_weights(tiny_splits, teacher, tmp_path, train):
    """Killed within the second epoch, whose steps are trained again."""
    config = student(teacher, **{"train.epochs": 3})
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    reports, undisturbed = train(config, tiny_splits, tmp_path / "whole")
    steps = TrainingLoader(tiny_splits.train, config).steps_per_epoch
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(steps + 1)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert any(line == "blocked\n" for line in child.stdout)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert checkpoint.read(tmp_path / "checkpoint").progress.epoch == 1
    again, resumed = train(config, tiny_splits, tmp_path, resume=tmp_path / "checkpoint")
    assert [each["train_teacher_action"] for each in again] == [each["train_teacher_action"] for each in reports[1:]]
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
