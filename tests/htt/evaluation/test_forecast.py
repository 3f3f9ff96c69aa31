"""Errors of a forecast: against both baselines, at times that the frame rate has, with intervals over groups."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from htt.batch import Batch, Forecast, Prediction
from htt.config import LossConfig
from htt.evaluation import clip_table, report
from htt.evaluation.metric_table import EVALUATED, METRICS, at_time, frame_at, untrained_by
from htt.evaluation.metrics import Evaluation
from htt.evaluation.scores import reservations, scores
from htt.info import DataInfo
from htt.testing import random_batch, random_prediction, tiny_config, tiny_info
from htt.training.tasks import unpredicted

FORECAST = [name for name in EVALUATED if name.startswith("forecast_")]


def walk(info: DataInfo, frames: list[list[int]], ahead: int, step_mm: float = 10.0) -> tuple[Prediction, Batch]:
    """Windows of clips whose joints move along x by ``step_mm`` a frame, and a forecast that keeps the true pose."""
    batch = random_batch(info, [len(each) for each in frames], ahead=ahead)
    frame = torch.tensor([one for each in frames for one in each])
    moved_m = step_mm / 1000 * (frame[:, None] + torch.arange(ahead + 1)).float()
    ahead_m = torch.zeros_like(batch.ahead_m)
    ahead_m[..., 2], ahead_m[..., 0] = 0.5, moved_m[..., None]
    batch = dataclasses.replace(batch, frame=frame, ahead_m=ahead_m, joints_m=ahead_m[:, 0])
    kept = ahead_m[:, :1].expand_as(ahead_m).clone()
    forecast = Forecast(batch.ahead_px, kept[..., 2], kept)
    return dataclasses.replace(random_prediction(info, batch), forecast=forecast), batch


def result(info: DataInfo, prediction: Prediction, batch: Batch) -> dict[str, float]:
    evaluation = Evaluation(info)
    evaluation.update(prediction, batch)
    return evaluation.result()


def test_last_pose_is_off_by_the_motion_and_a_constant_velocity_by_nothing():
    """10 mm a frame, 30 frames a second; every second frame is in the window. Its first frame has no velocity."""
    info = tiny_info()
    prediction, batch = walk(info, [[0, 2, 4, 6]], ahead=6)
    found = result(info, prediction, batch)
    assert found["forecast_kept_error_100ms_mm"] == pytest.approx(30, rel=1e-4)
    assert found["forecast_kept_error_200ms_mm"] == pytest.approx(60, rel=1e-4)
    assert found["forecast_kept_error_mm"] == pytest.approx(35, rel=1e-4), "the mean of 10 to 60 mm"
    assert found["forecast_velocity_error_200ms_mm"] == pytest.approx(60 / 4, rel=1e-4), "one of four frames"
    assert found["forecast_error_200ms_mm"] == found["forecast_kept_error_200ms_mm"], "this forecast keeps the pose"
    assert found["forecast_gain_over_kept_mm"] == 0
    assert found["forecast_gain_over_velocity_200ms_mm"] == pytest.approx(15 - 60, rel=1e-4)


def test_velocity_does_not_reach_over_windows():
    """Two windows of one clip, of even and of odd frames, and one of another clip: each starts without a velocity."""
    info = tiny_info()
    prediction, batch = walk(info, [[0, 2], [1, 3], [0]], ahead=3)
    found = result(info, prediction, batch)
    assert found["forecast_velocity_error_100ms_mm"] == pytest.approx(30 * 3 / 5, rel=1e-4)


def test_baselines_start_from_the_models_own_hands_of_the_frame():
    """Hands that are off by 40 mm across the motion leave every baseline off by as much."""
    info = tiny_info()
    prediction, batch = walk(info, [[0, 1, 2, 3]], ahead=3, step_mm=0.0)
    prediction.forecast.joints_m[:, 0, :, 1] += 0.04
    found = result(info, prediction, batch)
    assert found["forecast_error_100ms_mm"] == pytest.approx(0, abs=1e-3)
    for name in ("kept", "velocity"):
        assert found[f"forecast_{name}_error_100ms_mm"] == pytest.approx(40, rel=1e-4)
        assert found[f"forecast_gain_over_{name}_100ms_mm"] == pytest.approx(40, rel=1e-4)


def test_frames_without_labels_ahead_count_nowhere():
    info = tiny_info()
    prediction, batch = walk(info, [[0, 1, 2, 3]], ahead=6)
    prediction.forecast.joints_m[2:, 1:] += 9.0
    batch.ahead_valid[2:, 1:] = False
    batch.ahead_m[2:, 1:] = torch.nan
    found = result(info, prediction, batch)
    assert found["forecast_error_100ms_mm"] == pytest.approx(30, rel=1e-4)
    assert np.isfinite(found["loss"])
    batch.ahead_valid[:, 4:] = False
    found = result(info, prediction, batch)
    assert found["forecast_error_mm"] == pytest.approx(20, rel=1e-4), "the mean of the three frames that are known"
    assert at_time("forecast_error_mm", 200) not in found
    batch.ahead_valid[:, 1:] = False
    assert not [name for name in result(info, prediction, batch) if name.startswith("forecast_")]


def test_times_need_a_whole_number_of_frames():
    assert [frame_at(time_ms, 30.0) for time_ms in (100, 200, 500, 1000)] == [3, 6, 15, 30]
    assert [frame_at(time_ms, 29.97) for time_ms in (100, 200, 500, 1000)] == [3, 6, 15, 30]
    assert [frame_at(time_ms, 15.0) for time_ms in (100, 200, 500, 1000)] == [None, 3, None, 15]
    assert frame_at(100, 1.0) is None


def test_metrics_that_a_model_cannot_give_have_a_reason():
    typed = {"model.action.cues": ["feature", "hand_type"]}
    none = unpredicted(tiny_config(**typed), 30.0)
    assert {*none} == {*FORECAST, "loss_forecast_px", "loss_forecast_depth_m"}
    assert set(none.values()) == {"the model has no forecast; set model.forecast.frames to 1 or more"}
    some = unpredicted(tiny_config(**typed, **{"model.forecast.frames": 6}), 15.0)
    assert some["forecast_error_500ms_mm"] == "0.5 s is no whole number of frames at 15 frames/s"
    assert some["forecast_gain_over_kept_1000ms_mm"] == "model.forecast.frames is 6, and 1 s are 15 frames"
    info = dataclasses.replace(tiny_info(), frame_rate=15.0)
    batch = random_batch(info, ahead=6)
    assert {*FORECAST} - {*result(info, random_prediction(info, batch), batch)} == {*some}


def test_gain_may_be_negative_and_is_better_if_high():
    about = METRICS["forecast_gain_over_kept_mm"]
    assert (about.mode, about.unit) == ("max", "mm")
    assert about.range == (-np.inf, np.inf)
    assert METRICS["forecast_error_mm"].range == (0, np.inf)
    assert METRICS["forecast_error_200ms_mm"].title == "Forecast error at 0.2 s"
    assert about.number(-3.25) == "−3.25 mm"
    assert about.number(8.7214) == "+8.72 mm"
    assert about.span(-12.5, 0.25) == "−12.5 to +0.25 mm"


def test_untrained_forecast_is_said():
    assert untrained_by("forecast_error_mm", LossConfig(forecast=0.0)) == ["forecast"]
    assert untrained_by("loss_forecast_depth_m", LossConfig(depth_m=0.0)) == ["depth_m"]
    assert untrained_by("forecast_error_mm", LossConfig()) == []
    off = {"loss.forecast": 0.0}
    assert reservations(tiny_config(**off)) == []
    (said,) = reservations(tiny_config(**off, **{"model.forecast.frames": 3}))
    assert said.startswith("The forecast head was trained with a weight of 0 of loss.forecast")


@pytest.fixture
def evaluated():
    info = tiny_info()
    evaluation = Evaluation(info)
    for place in range(4):
        prediction, batch = walk(info, [[0, 1, 2, 3, 4]], ahead=15, step_mm=5.0 + place)
        batch.ahead_valid[:, 13:] = False
        evaluation.update(prediction, dataclasses.replace(batch, clip=torch.tensor([place])))
    return evaluation


def test_report_has_intervals_over_groups_and_a_figure(evaluated, tmp_path):
    found = scores(evaluated, "val", groups=["a", "a", "b", "c"], subjects=["x"] * 4)
    by_name = {score.metric: score for score in found.scores}
    error = by_name["forecast_kept_error_100ms_mm"]
    assert error.value == pytest.approx(3 * 6.5, rel=1e-4)
    assert error.interval[0] < error.value < error.interval[1]
    assert error.method == "bootstrap over groups of clips"
    assert "forecast_error_500ms_mm" not in by_name, "15 frames ahead no clip has labels"
    drawn = found.forecast
    np.testing.assert_allclose(drawn["time_s"], np.arange(1, 13) / 30)
    np.testing.assert_allclose(drawn["kept"]["error_mm"], 6.5 * np.arange(1, 13), rtol=1e-4)
    kept = drawn["kept"]
    assert (np.array(kept["low"]) < kept["error_mm"]).all()
    assert (np.array(kept["high"]) > kept["error_mm"]).all()
    table = clip_table.table(evaluated.sums(), evaluated.info.actions, list("0123"), list("0123"), list("0123"))
    np.testing.assert_allclose(table["forecast_kept_error_100ms_mm"], [15, 18, 21, 24], rtol=1e-4)
    report.write(tmp_path, found, table, report.Provenance("c", "d", "command", 20, "f"))
    text = (tmp_path / "report.md").read_text()
    assert "| Forecast error at 0.1 s | 19.5 mm |" in text
    assert "## Forecast\n\n![error of forecast hands over the time ahead](forecast.png)" in text
    assert "no numbers at 0.5 s, 1 s" in text
    assert (tmp_path / "forecast.png").stat().st_size > 5000
    stored = json.loads((tmp_path / "metrics.json").read_text())
    assert stored["forecast"]["time_s"] == drawn["time_s"]
    assert stored["metrics"]["forecast_gain_over_kept_mm"]["value"] == 0


def test_one_group_has_no_intervals(evaluated):
    found = scores(evaluated, "val", groups=["a"] * 4)
    assert "low" not in found.forecast["forecast"]
    assert {score.interval for score in found.scores} == {None}
