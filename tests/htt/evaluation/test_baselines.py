"""What is reached without the images equals an evaluation of that prediction."""

import dataclasses

import numpy as np
import pytest
import torch

from htt.evaluation import baselines
from htt.evaluation.metrics import Evaluation
from htt.testing import random_batch, random_prediction, tiny_info


class Posed(list):
    """Clips of which only the joints [t j 3] and the validity [t hands] of each are known."""

    info = tiny_info(2)

    def joints(self, clip):
        return self[clip][0]

    def hand_valid(self, clip):
        return self[clip][1]


def posed(seed, clips=3):
    random = np.random.default_rng(seed)
    return Posed(
        (random.normal(0, 0.1, (4, 42, 3)).astype(np.float32), random.random((4, 2)) < 0.7) for _ in range(clips)
    )


def test_mean_pose_error_equals_metric_of_predicting_it():
    train, batch = posed(0), random_batch(tiny_info(2))
    joints = np.concatenate([clip for clip, _ in train]).astype(np.float64)
    valid = np.repeat(np.concatenate([valid for _, valid in train]), 21, axis=1)
    mean = [joints[valid[:, joint], joint].mean(axis=0) for joint in range(42)]
    count = len(batch.joints_m)
    prediction = dataclasses.replace(
        random_prediction(tiny_info(2), batch), joints_m=torch.tensor(np.array(mean)).expand(count, -1, -1)
    )
    evaluation = Evaluation(tiny_info(2))
    evaluation.update(prediction, batch)
    hands = batch.joint_valid.numpy().reshape(count, 2, 21).all(axis=2)
    val = Posed([(batch.joints_m.numpy(), hands)])
    assert baselines.mean_pose_error_mm(train, val) == pytest.approx(evaluation.result()["hand_error_mm"])


def test_mean_pose_omits_a_hand_without_annotation():
    right = Posed((joints, valid & [False, True]) for joints, valid in posed(1))
    both = baselines.mean_pose_error_mm(posed(0), posed(1))
    assert 0 < baselines.mean_pose_error_mm(posed(0), right) != both
    assert np.isnan(baselines.mean_pose_error_mm(posed(0), Posed((joints, valid & False) for joints, valid in right)))


def test_chance_is_one_divided_by_the_number_of_names():
    info = Posed.info
    assert baselines.chance(posed(0)) == {
        "action_accuracy": 1 / len(info.actions),
        "action_accuracy_hard": 1 / len(info.actions),
        "action_early_auc": 1 / len(info.actions),
        "object_accuracy": 1 / len(info.objects),
        "hand_type_accuracy": 1 / len(info.hand_types),
    }
