"""Early action: a share of a clip is predicted as a clip that ends there, and nothing else changes."""

import functools

import numpy as np
import pytest
import torch

from htt.batch import Layout
from htt.config import override
from htt.data.loading.loader import Assembler, EvaluationLoader
from htt.data.loading.windows import evaluation_windows, observed_frames
from htt.evaluation.early import predict
from htt.evaluation.metrics import Evaluation
from htt.evaluation.sums import SHARES, early_area
from htt.model.htt import HTT
from htt.testing import tiny_config
from htt.training.loop import evaluate

WINDOWS = {
    "one window": {},
    "several windows": {"model.action.length": 3, "model.pose.window": 2, "data.spacing": 2},
    "causal": {"model.action.causal": True, "model.action.depth": 2},
    "other blocks": {"model.action.block": "lstm", "model.pose.block": "mean", "model.action.length": 3},
    "true cues": {"model.action.given": ["hands", "object"]},
}


def model_of(config, splits):
    torch.manual_seed(3)
    model = HTT(config.model, splits.info).eval()
    torch.nn.init.normal_(model.action_head.weight, std=3.0)  # else all clips have nearly the same action
    return model


@torch.inference_mode()
def accuracy_of_shorter_clips(model, clips, config, share):
    """The accuracy and the probabilities [c a] if each clip ends after a share of its frames."""
    windows = evaluation_windows(observed_frames(clips.frame_counts, share), config)
    evaluation = Evaluation(clips.info)
    for window in range(len(windows)):
        batch = Assembler(clips, windows)([window])
        evaluation.update(model(batch.frames, batch.valid, batch.intrinsics, truth=batch.truth), batch)
    return evaluation.result()["action_accuracy"], evaluation.sums().soft


@pytest.mark.parametrize("kind", WINDOWS)
def test_each_share_equals_an_evaluation_of_clips_that_end_there(tiny_splits, kind):
    config = tiny_config(**WINDOWS[kind], **{"runtime.early_action": True})
    model, clips = model_of(config, tiny_splits), tiny_splits.train
    sums = evaluate(model, clips, config).sums()
    right = sums.early_correct()
    assert right.shape == (len(clips), len(SHARES))
    for place, share in enumerate(SHARES):
        accuracy, soft = accuracy_of_shorter_clips(model, clips, config, share)
        np.testing.assert_allclose(sums.early[:, place], soft, rtol=1e-4, atol=1e-6)
        assert right[:, place].mean() == pytest.approx(accuracy)
    assert len({tuple(each) for each in sums.early[0].round(6)}) > 3, "the shares differ"


def test_measuring_it_changes_no_other_metric(tiny_splits):
    config = tiny_config(**WINDOWS["several windows"])
    model = model_of(config, tiny_splits)
    plain = evaluate(model, tiny_splits.val, config).result()
    found = evaluate(model, tiny_splits.val, override(config, {"runtime.early_action": True}))
    assert {name: value for name, value in found.result().items() if name != "action_early_auc"} == plain
    sums = found.sums()
    assert np.array_equal(sums.early[:, -1], sums.soft)


def test_encoder_runs_once_per_frame(tiny_splits):
    config = tiny_config(**{"runtime.early_action": True})
    model, encoded = model_of(config, tiny_splits), []
    model.features.backbone.register_forward_hook(lambda _, inputs, output: encoded.append(len(output)))
    evaluate(model, tiny_splits.val, config)
    assert sum(encoded) == tiny_splits.val.frame_counts.sum()


def test_later_frames_do_not_matter(tiny_splits):
    config, clips = tiny_config(), tiny_splits.val
    model = model_of(config, tiny_splits)
    batch = Assembler(clips, evaluation_windows(clips.frame_counts, config))([0])
    layout, frames = Layout.of(batch.valid, config.model.pose.window), len(batch.frame)
    with torch.inference_mode():
        _, first = predict(model, batch, layout, clips.frame_counts)
        batch.frames[5:] = 255 - batch.frames[5:]
        _, second = predict(model, batch, layout, clips.frame_counts)
    alike = [np.array_equal(first[0, place], second[0, place]) for place in range(len(SHARES))]
    assert alike == [np.ceil(share * frames - 1e-9) <= 5 for share in SHARES]


def test_workers_give_the_same_area_as_one(tiny_splits):
    how = {"runtime.early_action": True, "train.batch_size": 1, "model.action.length": 3}
    config = tiny_config(**how, **{"model.pose.window": 2})
    model, clips = model_of(config, tiny_splits), tiny_splits.train
    whole = evaluate(model, clips, config).result()

    parts = [evaluate(model, clips, config, loader=EvaluationLoader(clips, config, rank, 2)) for rank in range(2)]
    assert functools.reduce(Evaluation.merge, reversed(parts)).result() == whole
    assert 0 <= whole["action_early_auc"] <= 1


def test_area_is_the_mean_over_observed_shares():
    assert early_area(np.ones(len(SHARES))) == pytest.approx(1)
    assert early_area(np.array(SHARES)) == pytest.approx(0.55)
    late = np.zeros(len(SHARES))
    late[-1] = 1
    assert early_area(late) == pytest.approx(0.05 / 0.9), "right at the end alone"
