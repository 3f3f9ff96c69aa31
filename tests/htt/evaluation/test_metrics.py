"""Metrics: the numbers the released evaluation gives, and that parts join to the whole."""

import dataclasses
import functools
import json
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from htt.batch import Batch, Prediction
from htt.config import LossConfig
from htt.evaluation import clip_table, intervals
from htt.evaluation.metric_table import EARLY, EVALUATED, METRICS
from htt.evaluation.metrics import Evaluation
from htt.evaluation.sums import SHARES, thresholds_mm
from htt.info import DataInfo
from htt.losses import losses, total
from htt.testing import random_batch, random_prediction, tiny_info

GOLDEN = Path(__file__).parents[2] / "golden"


def evaluated(info: DataInfo, *pairs: tuple[Prediction, Batch], loss: LossConfig | None = None) -> Evaluation:
    evaluation = Evaluation(info, loss or LossConfig())
    for prediction, batch in pairs:
        evaluation.update(prediction, batch)
    return evaluation


def clips(evaluation: Evaluation) -> pl.DataFrame:
    """The table of its clips, whose ids are their numbers."""
    sums = evaluation.sums()
    names = list(map(str, range(int(sums.clip.max()) + 1)))
    return clip_table.table(sums, evaluation.info.actions, names, names, names)


def pair(
    info: DataInfo, lengths: list[int], seed: int, clips: list[int] | None = None, ahead: int = 0
) -> tuple[Prediction, Batch]:
    batch = random_batch(info, lengths, seed, ahead=ahead)
    if clips is not None:
        batch = dataclasses.replace(batch, clip=torch.tensor(clips))
    return random_prediction(info, batch, seed), batch


def test_hand_errors_equal_the_released_evaluation():
    expected = json.loads((GOLDEN / "metrics_fpha_like.json").read_text())
    with np.load(GOLDEN / "metrics_fpha_like.npz") as arrays:
        predicted, target, valid = (torch.from_numpy(arrays[name]) for name in ("prediction_m", "target_m", "valid"))
    info = tiny_info(1)
    batch = random_batch(info, [len(valid)])
    joint_valid = valid[:, None].expand(batch.joint_valid.shape).clone()
    batch = dataclasses.replace(batch, joints_m=target, joint_valid=joint_valid)
    evaluation = evaluated(info, (dataclasses.replace(random_prediction(info, batch), joints_m=predicted), batch))
    result, curves = evaluation.result(), evaluation.curves()
    for space, name in (("", "joints3d"), ("_ra", "joints3d_cent")):
        assert result[f"hand_error{space}_mm"] == pytest.approx(1000 * expected[name]["mean_error_m"], rel=1e-6)
        assert result[f"hand_auc{space}"] == pytest.approx(expected[name]["auc"], rel=1e-9)
        curve = curves[f"hand_auc{space}"]
        np.testing.assert_allclose(curve.fraction, expected[name]["pck"], atol=1e-12)
        np.testing.assert_allclose(curve.distance_mm, 1000 * np.array(expected[name]["thresholds_m"]))
        assert result[f"hand_error{space}_right_mm"] == result[f"hand_error{space}_mm"], "its one hand is the right one"


def test_votes_equal_the_released_evaluation():
    golden = json.loads((GOLDEN / "vote.json").read_text())
    windows = golden["windows"]
    classes = tuple(map(str, range(len(windows[0]["probabilities"]))))
    info = DataInfo("votes", classes, ("x",), 1, 64, 36)
    evaluation = Evaluation(info)
    for first in range(0, len(windows), 7):
        some = windows[first : first + 7]
        batch = dataclasses.replace(
            random_batch(info, [1] * len(some)),
            clip=torch.tensor([window["clip"] for window in some]),
            action=torch.tensor([window["label"] for window in some]),
        )
        logits = torch.tensor([window["probabilities"] for window in some]).log()
        evaluation.update(dataclasses.replace(random_prediction(info, batch), action_logits=logits), batch)
    assert evaluation.result()["action_accuracy"] == golden["clip_accuracy_soft_vote"]
    correct = evaluation.sums().correct()
    assert len(correct) == golden["clips"]
    assert correct.sum() == golden["clip_accuracy_soft_vote"] * golden["clips"]


def test_soft_and_hard_votes_can_differ():
    info = tiny_info(1)
    batch = dataclasses.replace(random_batch(info, [1, 1, 1]), clip=torch.tensor([4, 4, 4]), action=torch.full((3,), 2))
    logits = torch.tensor([[0.51, 0.0, 0.49, 0.0], [0.51, 0.0, 0.49, 0.0], [0.0, 0.0, 1.0, 0.0]]).log()
    evaluation = evaluated(info, (dataclasses.replace(random_prediction(info, batch), action_logits=logits), batch))
    assert evaluation.result()["action_accuracy"] == 1
    assert evaluation.result()["action_accuracy_hard"] == 0
    (clip,) = clips(evaluation).rows(named=True)
    assert (clip["clip"], clip["predicted"], clip["correct"]) == ("4", info.actions[2], True)
    assert clip["probability"] == pytest.approx((0.49 + 0.49 + 1) / 3)


@pytest.mark.parametrize("winner", [0, 2])
def test_hard_vote_breaks_a_tie_by_summed_probability(winner):
    """Two windows vote for 0 and for 2; action 1 has the highest sum (0.94) and no vote."""
    info = tiny_info(1)
    batch = dataclasses.replace(random_batch(info, [1, 1]), clip=torch.tensor([4, 4]), action=torch.full((2,), winner))
    probabilities = torch.tensor([[0.51, 0.48, 0.01, 0.0], [0.0, 0.46, 0.54, 0.0]])  # sums 0.51, 0.94, 0.55
    if winner == 0:
        probabilities = probabilities[:, [2, 1, 0, 3]]
    prediction = dataclasses.replace(random_prediction(info, batch), action_logits=probabilities.log())
    evaluation = evaluated(info, (prediction, batch))
    sums = evaluation.sums()
    assert sums.hard.tolist() == [[1, 0, 1, 0]]
    assert sums.actions("hard").tolist() == [winner]
    assert sums.actions("soft").tolist() == [1]
    assert evaluation.result()["action_accuracy_hard"] == 1


def test_metrics_by_hand():
    info = tiny_info(2)
    batch = random_batch(info, [2])
    offset = torch.zeros_like(batch.joints_m)
    offset[0, :21, 0] = 0.010  # the left hand is off by 10 mm as a whole
    offset[1, :21, 0] = 0.030
    offset[:, 22:, 1] = 0.040  # the right one but for its wrist by 40 mm
    prediction = dataclasses.replace(random_prediction(info, batch), joints_m=batch.joints_m + offset)
    result = evaluated(info, (prediction, batch)).result()
    assert result["hand_error_left_mm"] == pytest.approx(20, rel=1e-5)
    assert result["hand_error_right_mm"] == pytest.approx(40 * 20 / 21, rel=1e-5)
    assert result["hand_error_mm"] == pytest.approx((20 + 40 * 20 / 21) / 2, rel=1e-5)
    assert result["hand_error_ra_left_mm"] == pytest.approx(0, abs=1e-3)
    assert result["hand_error_ra_right_mm"] == pytest.approx(40, rel=1e-5)


def test_rarely_annotated_joint_counts_like_any_other():
    info = tiny_info(1)
    batch = random_batch(info, [4])
    batch.joint_valid[1:, 5] = False
    offset = torch.zeros_like(batch.joints_m)
    offset[0, 5, 0] = 0.021
    prediction = dataclasses.replace(random_prediction(info, batch), joints_m=batch.joints_m + offset)
    assert evaluated(info, (prediction, batch)).result()["hand_error_mm"] == pytest.approx(1, rel=1e-5)


def test_pck_thresholds_depend_on_the_hands():
    assert [len(thresholds_mm(*of)) for of in ((1, ""), (2, ""), (1, "_ra"), (2, "_ra"))] == [33, 37, 21, 21]
    assert [thresholds_mm(*of)[-1] for of in ((1, ""), (2, ""), (2, "_ra"))] == [80, 90, 50]


def test_metrics_without_data_are_absent():
    info = tiny_info()
    prediction, batch = pair(info, [3, 2], 0)
    batch.joint_valid[:] = False
    batch.joints_m[:] = torch.nan
    batch.joints_px[:] = torch.nan
    batch.action[:] = batch.hand_type[:] = -1
    assert set(evaluated(info, (prediction, batch)).result()) == {"loss", "loss_object", "object_accuracy"}
    assert Evaluation(info).result() == {}
    first = clips(evaluated(info, (prediction, batch))).row(0, named=True)
    assert first["hand_error_mm"] is None
    assert first["correct"] is None


def test_metrics_of_one_hand_survive_the_absent_other():
    info = tiny_info()
    prediction, batch = pair(info, [3, 2], 0)
    batch.joint_valid[:, :21] = False
    result = evaluated(info, (prediction, batch)).result()
    assert "hand_error_left_mm" not in result
    assert result["hand_error_mm"] == result["hand_error_right_mm"]


def test_metric_table_lists_every_metric():
    info = tiny_info()
    evaluation = evaluated(info, pair(info, [3, 2], 0))
    assert list(evaluation.result()) == [name for name in EVALUATED if name != EARLY and "forecast" not in name]
    with_early = Evaluation(info)
    with_early.update(*pair(info, [3, 2], 0, ahead=30), np.full((2, len(SHARES), len(info.actions)), 0.25))
    assert list(with_early.result()) == list(EVALUATED)
    assert EARLY not in evaluation.merge(with_early).result(), "one part has it and the other has not"


def test_early_action_adds_up_the_windows_of_a_clip():
    """Clip 4 has two windows: the second begins at the fourth share, and outvotes the first from the sixth on."""
    info = tiny_info(1)
    prediction, batch = pair(info, [1, 1, 1], 0, [4, 4, 5])
    batch = dataclasses.replace(batch, action=torch.tensor([2, 2, -1]), frame=torch.tensor([0, 1, 0]))
    early = np.zeros((3, len(SHARES), 4))
    early[0, :, 1], early[1, 3:5, 2], early[1, 5:, 2] = 0.6, 0.5, 0.7
    evaluation = Evaluation(info)
    evaluation.update(prediction, batch, early)
    sums = evaluation.sums()
    assert sums.early.shape == (2, len(SHARES), 4)
    assert sums.early_correct().tolist() == [[False] * 5 + [True] * 5]
    assert evaluation.result()[EARLY] == pytest.approx(0.45 / 0.9)
    frame = clips(evaluation)
    assert frame[EARLY].to_list() == [pytest.approx(0.5), None]
    assert frame["correct_early"].to_list() == [[False] * 5 + [True] * 5, None]


def test_loss_is_the_weighted_sum_of_terms():
    info, weights = tiny_info(), LossConfig(joints_px=0.5, depth_m=7.0, object=2.0, action=3.0)
    one = pair(info, [3, 2], 0)
    result = evaluated(info, one, loss=weights).result()
    assert result["loss"] == pytest.approx(total(losses(*one), weights).item(), rel=1e-6)


windows = st.lists(st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 99)), max_size=4)


@settings(deadline=None, max_examples=20)
@given(parts=windows, cut=st.integers(0, 4))
def test_joined_evaluations_equal_the_whole(parts, cut):
    info = tiny_info()
    pairs = [pair(info, lengths, seed, [place % 2 for place in range(len(lengths))]) for lengths, seed in parts]
    whole = evaluated(info, *pairs)
    first, second = evaluated(info, *pairs[:cut]), evaluated(info, *pairs[cut:])
    sent = [pickle.loads(pickle.dumps(one)) for one in (first, second)]
    joined = functools.reduce(Evaluation.merge, sent)
    assert joined.result() == pytest.approx(whole.result(), rel=1e-9)
    if parts:
        assert_frame_equal(clips(joined), clips(whole), rel_tol=1e-9)
    assert first.result() == evaluated(info, *pairs[:cut]).result(), "a part does not change"


def test_metric_table_has_direction_and_unit():
    assert METRICS["hand_error_mm"].mode == "min"
    assert METRICS["action_accuracy"].mode == METRICS[EARLY].mode == "max"
    assert METRICS[EARLY].range == (0, 1)
    assert METRICS["hand_error_left_mm"].unit == "mm"


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(6)), cut=st.integers(0, 6))
def test_evaluation_is_identical_however_work_is_split(order, cut):
    info = tiny_info()
    parts = []
    for place in range(6):  # two windows of each clip, in batches of two
        prediction, batch = pair(info, [3, 4], place, [place // 2, place // 2 + 3], ahead=6)
        batch = dataclasses.replace(batch, frame=batch.frame + 10 * (place % 2))
        parts.append(evaluated(info, (prediction, batch)))
    whole = functools.reduce(Evaluation.merge, parts)
    workers = [functools.reduce(Evaluation.merge, (parts[place] for place in some), Evaluation(info))
               for some in (order[:cut], order[cut:])]  # fmt: skip
    joined = functools.reduce(Evaluation.merge, workers)
    assert joined.result() == whole.result()
    assert clips(joined).equals(clips(whole))


def test_clips_of_double_weight_count_twice():
    info = tiny_info()
    sums = evaluated(info, pair(info, [3, 2, 4], 0, ahead=6)).sums()
    twice = evaluated(info, pair(info, [3, 2, 4], 0, ahead=6), pair(info, [3, 2, 4], 0, ahead=6)).result()
    drawn = sums.hand_metrics(np.array([[2.0, 2.0, 2.0], [0.0, 0.0, 1.0]]))
    alone = sums.hand_metrics(np.eye(3))
    for name, values in drawn.items():
        assert values[0] == pytest.approx(twice[name], rel=1e-9), name
        assert values[1] == pytest.approx(alone[name][2], rel=1e-12), name


def test_hand_type_accuracy_counts_known_hands():
    info = tiny_info()
    prediction, batch = pair(info, [3, 2], 0)
    batch.hand_type[:] = prediction.hand_type_logits.argmax(-1)
    batch.hand_type[0] = -1
    batch.hand_type[4, 1] = (batch.hand_type[4, 1] + 1) % 3
    evaluation = evaluated(info, (prediction, batch))
    assert evaluation.result()["hand_type_accuracy"] == pytest.approx(7 / 8)
    assert clips(evaluation)["hand_type_accuracy"].to_list() == pytest.approx([1.0, 0.75])
    weights = intervals.draws(evaluation.sums())
    low, high = intervals.bootstrap(evaluation.sums(), weights)["hand_type_accuracy"]
    assert 0.75 <= low < 7 / 8 < high <= 1
    plain = evaluated(info, (dataclasses.replace(prediction, hand_type_logits=None), batch))
    assert not {"hand_type_accuracy", "loss_hand_type"} & plain.result().keys()
    assert "hand_type_accuracy" not in clips(plain).columns
