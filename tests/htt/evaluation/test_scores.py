"""What an evaluation says: every metric once, with the right interval and the published number beside it."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from htt.config import LossConfig
from htt.data.shards.manifest import Coverage
from htt.evaluation import clip_table, intervals, report
from htt.evaluation.metric_table import EARLY, EVALUATED, METRICS
from htt.evaluation.metrics import Evaluation
from htt.evaluation.published import COUNTS, HANDS, published
from htt.evaluation.scores import Scores, scores
from htt.evaluation.sums import SHARES
from htt.info import UNKNOWN, DataInfo
from htt.testing import random_batch, random_prediction, tiny_info

NOT_COMPARED = "The published numbers are of the whole split (122 clips), these of 1 clip: they cannot be compared."


def evaluation(info: DataInfo, clips: list[int], actions: list[int]) -> Evaluation:
    """One window of three frames for each entry of ``clips``, whose votes are right for even clips alone."""
    batch = dataclasses.replace(
        random_batch(info, [3] * len(clips)),
        clip=torch.tensor(clips),
        action=torch.tensor(actions),
        frame=torch.arange(3 * len(clips)),
    )
    wrong = torch.tensor([(max(action, 0) + clip % 2) % 4 for clip, action in zip(clips, actions, strict=True)])
    logits = torch.eye(4)[wrong] * 5
    found = Evaluation(info, LossConfig())
    found.update(dataclasses.replace(random_prediction(info, batch), action_logits=logits), batch)
    return found


def test_report_lists_every_metric_once_sought_ones_first() -> None:
    found = scores(evaluation(tiny_info(), [0, 1, 2], [0, 1, 2]), "val")
    names = [score.metric for score in found.scores]
    assert sorted(names) == sorted(name for name in EVALUATED if name != EARLY and "forecast" not in name)
    assert EARLY not in found.curves
    assert names[:3] == ["action_accuracy", "action_accuracy_hard", "object_accuracy"]
    assert names[-1] == "loss_hand_type"


def test_report_has_wilson_for_clips_and_bootstrap_for_others() -> None:
    found = {score.metric: score for score in scores(evaluation(tiny_info(), [0, 1, 2], [0, 1, 2]), "val").scores}
    action = found["action_accuracy"]
    assert (action.value, action.of, action.method) == (2 / 3, 3, "Wilson")
    assert action.interval == intervals.wilson(2, 3)
    for name, score in found.items():
        if name.startswith(("hand", "object")):
            assert score.method == "bootstrap over clips", name
            assert score.interval is not None
            assert score.interval[0] <= score.value <= score.interval[1], name
        if name.startswith("loss"):
            assert score.interval is None


def test_report_of_one_hand_repeats_nothing() -> None:
    names = [score.metric for score in scores(evaluation(tiny_info(1), [0, 1], [0, 1]), "test").scores]
    assert "hand_error_mm" in names
    assert not [name for name in names if "right" in name or "left" in name]


def test_report_without_actions_has_poses_only() -> None:
    found = scores(evaluation(tiny_info(), [0, 1], [-1, -1]), "test")
    names = [score.metric for score in found.scores]
    assert "hand_error_left_mm" in names
    assert not [name for name in names if name.startswith("action")]
    assert found.confusion().sum() == 0
    frame = rows(found, ["a", "b"], ["s", "s"], ["", "milk"])
    assert frame["action"].to_list() == [None, None]
    assert frame["correct"].to_list() == [None, None]
    assert frame["object"].to_list() == [None, "milk"]
    assert frame["predicted"].to_list() == ["pour", "open"]


def test_clip_csv_names_the_predicted_action() -> None:
    info = tiny_info()
    found = scores(evaluation(info, [2, 0, 2, 1], [3, 0, 3, 1]), "val")
    frame = rows(found, ["a", "b", "c"], ["s1", "s2", "s3"], ["milk", "book", "lotion"])
    assert frame["clip"].to_list() == ["a", "b", "c"]
    assert frame["subject"].to_list() == ["s1", "s2", "s3"]
    assert frame["group"].to_list() == ["a", "b", "c"]
    assert frame["windows"].to_list() == [1, 1, 2]
    assert frame["action"].to_list() == ["pour", "open", "read"]
    assert frame["predicted"].to_list() == ["pour", "close", "read"]
    assert frame["correct"].to_list() == [True, False, True]
    assert frame["probability"].to_list() == pytest.approx([np.exp(5) / (np.exp(5) + 3)] * 3, rel=1e-6)
    confusion = found.confusion()
    assert confusion[1].tolist() == [0, 0, 1, 0]
    assert confusion.trace() == 2
    alone = found.sums.spaces[""].error_mm[1] / found.sums.spaces[""].count[1]
    assert frame["hand_error_mm"][1] == pytest.approx(alone.mean())


def test_published_numbers_appear_only_for_their_split() -> None:
    info = dataclasses.replace(tiny_info(), source="h2o")
    found = {score.metric: score.published for score in scores(evaluation(info, [0, 1], [0, 1]), "val").scores}
    assert found["action_accuracy"] == 110 / 122
    assert found["hand_error_left_mm"] is None
    train = scores(evaluation(info, [0, 1], [0, 1]), "train")
    assert train.published == {}
    assert not any(score.published for score in train.scores)


def h2o_val(clips: int, right: int) -> Evaluation:
    """So many clips of H2O's validation split, the first ``right`` of them named rightly."""
    info = dataclasses.replace(tiny_info(), source="h2o")
    order = [2 * place if place < right else 2 * place + 1 for place in range(clips)]
    return evaluation(info, order, [0] * clips)


def test_published_accuracy_is_compared_with_both_errors(tmp_path) -> None:
    found = scores(h2o_val(122, 108), "val", coverage=Coverage("val", 122, 366, 122, 366))
    action = found.scores[0]
    assert (action.metric, action.of) == ("action_accuracy", 122)
    assert action.published_interval == intervals.wilson(110, 122)
    assert action.difference == intervals.difference(108, 122, 110, 122)
    assert found.warnings == []
    text = text_of(found, tmp_path)
    assert "published 90.2 % (83.6 to 94.3 %); ours less published −1.6 points (−9.6 to +6.3). The interval inc" in text
    assert "cannot tell the two apart" not in text
    plain = found.plain()
    assert (plain["complete"], plain["published_comparable"]) == (True, True)
    assert plain["metrics"]["action_accuracy"]["difference_low"] == action.difference[0]


def test_published_error_is_only_located(tmp_path) -> None:
    info = dataclasses.replace(tiny_info(), source="h2o")
    found = scores(evaluation(info, list(range(242)), [-1] * 242), "test")
    text = text_of(found, tmp_path)
    assert "- Left hand error: published 35.0 mm, outside our interval; the error of the published number is" in text


def test_incomplete_split_is_stated_with_its_numbers(tmp_path) -> None:
    """One clip of 122: warned of in the report and the JSON, and not compared with what was published."""
    found = scores(h2o_val(1, 1), "val", coverage=Coverage("val", 1, 3, 122, 11_638))
    first, second = found.warnings
    assert "split 'val' has 1 of 122 clips and 3 of 11,638 frames, so metrics do not cover the whole split" in first
    assert second == NOT_COMPARED
    text = text_of(found, tmp_path)
    assert f"**{first}**" in text
    assert "| Metric | Value | 95 % interval | Published (whole split) |" in text
    assert "## Comparison with the published numbers" not in text
    plain = found.plain()
    assert (plain["complete"], plain["published_comparable"], plain["warnings"]) == (False, False, found.warnings)
    assert plain["coverage"]["wanted_clips"] == 122


def test_shorter_split_is_not_compared_with_published() -> None:
    """The source's own list is complete, but it has one clip where the published split has 122."""
    found = scores(h2o_val(1, 1), "val", coverage=Coverage("val", 1, 3, 1, 3))
    assert found.warnings == [NOT_COMPARED]


@pytest.mark.parametrize(
    ("subjects", "says"), [(["s3"] * 3, "are of one person"), (["a", "b", "a"], "are of 2 people")]
)
def test_intervals_name_their_population(tmp_path, subjects, says) -> None:
    found = scores(evaluation(tiny_info(), [0, 1, 2], [0, 1, 2]), "val", subjects=subjects)
    assert says in text_of(found, tmp_path)


def test_groups_are_counted_and_drawn(tmp_path) -> None:
    """Clips 0 and 1, of which the first is right, are one recording; clip 3 was not evaluated."""
    groups = ["r", "r", "s", "t", "u"]
    found = scores(evaluation(tiny_info(), [0, 1, 2, 4], [0, 1, 2, 3]), "val", groups=groups)
    by_name = {score.metric: score for score in found.scores}
    assert found.groups == found.plain()["groups"] == 3
    correct, own = np.array([1, 0, 1, 1]), ["r", "r", "s", "u"]
    number = intervals.effective(correct, own)
    assert (by_name["action_accuracy"].of, by_name["action_accuracy"].value) == (4, 0.75)
    assert by_name["action_accuracy"].interval == intervals.wilson(0.75 * number, number)
    assert by_name["action_accuracy"].method == "Wilson, effective number of clips"
    drawn = intervals.bootstrap(found.sums, intervals.draws(found.sums, own), own)
    assert by_name["hand_error_mm"].interval == drawn["hand_error_mm"]
    assert by_name["hand_error_mm"].method == "bootstrap over groups of clips"
    assert "- Intervals over 4 clips in 3 groups: clips of a group" in text_of(found, tmp_path)
    frame = clip_table.table(found.sums, found.actions, list("abcde"), ["p"] * 5, [""] * 5, groups)
    assert frame["group"].to_list() == ["r", "r", "s", "u"]


def test_one_group_has_no_interval(tmp_path) -> None:
    found = scores(evaluation(tiny_info(), [0, 1, 2], [0, 1, 2]), "val", groups=["r"] * 3)
    assert not any(score.interval or score.method for score in found.scores)
    assert "low" not in found.curves["hand_auc"]
    assert "- No intervals: the 3 clips are all of one group" in text_of(found, tmp_path)


def early(groups: list[str]) -> Scores:
    """Four clips of one window: the first two are always named rightly, the third from 60 % on, the last never."""
    found = evaluation(tiny_info(), [0, 2, 4, 6], [0, 1, 2, 3])
    right = np.eye(4)[[0, 1, 2, 3]]
    shares = np.repeat(right[:, None], len(SHARES), axis=1)
    shares[2, :5], shares[3] = right[0], right[0]
    found._windows[:] = [
        dataclasses.replace(window, early=each) for window, each in zip(found._windows, shares, strict=True)
    ]
    return scores(found, "val", groups=[groups[clip // 2] for clip in range(8)])


def test_early_action_has_intervals_over_groups(tmp_path) -> None:
    found = early(["r", "r", "s", "t"])
    curve, (score,) = found.curves[EARLY], [score for score in found.scores if score.metric == EARLY]
    assert curve["fraction"] == [0.5] * 5 + [0.75] * 5
    assert score.value == pytest.approx((0.45 * 0.5 + 0.45 * 0.75) / 0.9)
    assert score.method == "bootstrap over groups of clips"
    areas = np.array([1, 1, 0.5, 0])
    assert score.interval == pytest.approx(intervals.mean(areas, ["r", "r", "s", "t"]))
    for place, correct in ((0, [1, 1, 0, 0]), (9, [1, 1, 1, 0])):
        number = intervals.effective(np.array(correct), ["r", "r", "s", "t"])
        expected = intervals.wilson(np.mean(correct) * number, number)
        assert (curve["low"][place], curve["high"][place]) == pytest.approx(expected)
    assert [score.metric for score in found.scores][:3] == ["action_accuracy", "action_accuracy_hard", EARLY]
    text = text_of(found, tmp_path)
    assert "| Early action AUC | 0.625 |" in text
    assert "| 60 % | 75.0 % |" in text
    assert "and those without an earlier one do not vote" in text


def test_early_action_of_one_group_has_no_interval(tmp_path) -> None:
    found = early(["r"] * 4)
    assert not [score for score in found.scores if score.interval]
    assert set(found.curves[EARLY]) == {"share", "fraction"}
    assert "| 10 % | 50.0 % | – |" in text_of(found, tmp_path)
    assert pl.read_csv(tmp_path / "early_action.csv").columns == ["share", "accuracy"]


def test_published_accuracy_uses_the_same_groups(tmp_path) -> None:
    """122 clips in pairs that are right or wrong together: 61 effective clips, of ours and of the published model."""
    groups = [f"r{clip // 2}" for clip in range(122)]
    info = dataclasses.replace(tiny_info(), source="h2o")
    order = [2 * clip if clip < 108 else 2 * clip + 1 for clip in range(122)]
    names = [groups[clip // 2] for clip in range(2 * 122)]
    found = scores(evaluation(info, order, [0] * 122), "val", groups=names)
    action = found.scores[0]
    assert action.interval == pytest.approx(intervals.wilson(54, 61))
    assert action.published_interval == pytest.approx(intervals.wilson(55, 61))
    assert action.difference == pytest.approx(intervals.difference(54, 61, 55, 61))
    text = text_of(found, tmp_path)
    assert "Its clips are in the same groups, so its errors are taken to be as alike within a group as ours." in text
    assert f"({100 * action.published_interval[0]:.1f} to {100 * action.published_interval[1]:.1f} %)" in text


def blind(clips: int) -> Evaluation:
    """Clips of which neither hands nor actions are annotated."""
    info = tiny_info()
    batch = random_batch(info, [3] * clips)
    unseen = dataclasses.replace(
        batch,
        joint_valid=torch.zeros_like(batch.joint_valid),
        action=torch.full_like(batch.action, UNKNOWN),
        hand_type=torch.full_like(batch.hand_type, UNKNOWN),
    )
    found = Evaluation(info, LossConfig())
    found.update(random_prediction(info, unseen), unseen)
    return found


def test_split_without_hands_and_actions_is_stated(tmp_path) -> None:
    found = scores(blind(3), "test")
    assert {score.metric for score in found.scores} == {"object_accuracy", "loss", "loss_object"}
    text = text_of(found, tmp_path)
    assert "The actions of this split are unknown" in text
    assert "The hands of this split are not annotated: their metrics are unknown." in text
    assert "pck.png" not in text


def test_partly_labelled_split_is_not_compared() -> None:
    """122 clips, of which one has no label: 121 are counted, and the published number is of 122."""
    info = dataclasses.replace(tiny_info(), source="h2o")
    found = scores(evaluation(info, list(range(122)), [UNKNOWN] + [0] * 121), "val")
    assert found.scores[0].of == 121
    assert not found.comparable


def rows(found: Scores, ids: list[str], subjects: list[str], objects: list[str]) -> pl.DataFrame:
    return clip_table.table(found.sums, found.actions, ids, subjects, objects)


def text_of(found: Scores, folder: Path) -> str:
    """The report."""
    about = report.Provenance(checkpoint="c", data="d", command="x", frames=1, fingerprint="f")
    clips = int(found.sums.clip.max()) + 1
    report.write(folder, found, rows(found, ["c"] * clips, ["s"] * clips, [""] * clips), about)
    return (folder / report.REPORT).read_text()


def test_published_table_equals_the_papers() -> None:
    percent = {key: round(100 * published(*key)["action_accuracy"], 2) for key in COUNTS}
    assert percent == {("h2o", "val"): 90.16, ("h2o", "test"): 86.36, ("fpha", "test"): 94.09}
    assert published("h2o", "test")["action_accuracy"] == 209 / 242
    assert published("h2o", "test")["hand_error_left_mm"] == 35.02
    assert published("h2o", "train") == {}
    assert all(name in METRICS for table in HANDS.values() for name in table)
