"""Forecasts of new frames: those of an evaluation, frame after frame the same, drawn and written; not exported."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest

from htt import console
from htt import export as command
from htt.camera import project
from htt.inference import Predictor, export, overlay, results
from htt.inference.overlay import FAINT, Painter, State, shown_ahead
from htt.inference.predictor import joined
from htt.inference.published import publish
from htt.model.htt import HTT
from htt.testing import tiny_config, tiny_info
from htt.training import checkpoint as checkpoints
from htt.training.loop import evaluate
from htt.training.tasks import open_splits

MATRIX = np.array([[60.0, 0, 32], [0, 60, 18], [0, 0, 1]])
FRAMES = np.random.default_rng(0).integers(0, 256, (21, 36, 64, 3), dtype=np.uint8)


@pytest.fixture
def predictor_of(tmp_path, save, monkeypatch):
    """Open an untrained model whose forecast head has random weights."""
    build = HTT.__init__

    def with_weights(model, *given):
        build(model, *given)
        if model.config.forecast.frames:
            for parameter in model.forecast_head.displace.layers[-1].parameters():
                parameter.data.normal_(std=0.3)

    monkeypatch.setattr(HTT, "__init__", with_weights)

    def make(config=None, **values):
        values = {"model.pose.window": 3, "model.action.length": 8, "model.forecast.frames": 4, **values}
        info = None if config else tiny_info()
        return Predictor.load(save(tmp_path / "checkpoint", config or tiny_config(**values), info))

    return make


@pytest.mark.parametrize("action", [False, True])
@pytest.mark.parametrize("window", [3, 4, 99])
def test_stream_forecasts_what_the_whole_video_does(predictor_of, action, window):
    """21 frames in windows of 8, 8 and 5; the last window of block P in each may be shorter."""
    predictor = predictor_of(**{"model.forecast.action": action, "model.pose.window": window})
    offline, stream = predictor(FRAMES, MATRIX), predictor.stream(MATRIX)
    assert offline.forecast_px.shape == (21, 4, 42, 2)
    for index, frame in enumerate(FRAMES):
        current = stream(frame)
        np.testing.assert_allclose(current.forecast_px, offline.forecast_px[index], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(current.forecast_m, offline.forecast_m[index], rtol=1e-4, atol=1e-5)
    assert np.ptp(offline.forecast_m, axis=1).max() > 1e-3, "the hands move"


def test_prediction_equals_evaluation_on_the_same_pixels(predictor_of, one_clip, clip):
    config = tiny_config(**{"data.synthetic.val_clips": 1, "data.spacing": 2, "model.action.length": 3,
                            "model.pose.window": 2, "model.forecast.frames": 4})  # fmt: skip
    predictor, batches = predictor_of(config), []
    evaluate(predictor.model, open_splits(config).val, config, on_batch=lambda *both: batches.append(both))
    found, frames = predictor(*clip), np.concatenate([batch.frame for batch, _ in batches])
    expected = np.concatenate([prediction.forecast.joints_m[:, 1:] for _, prediction in batches])
    np.testing.assert_array_equal(found.forecast_m[frames], expected)


def test_forecast_is_in_the_pixels_of_larger_frames(predictor_of):
    predictor, matrix = predictor_of(), np.diag([2.0, 2, 1]) @ MATRIX
    large = FRAMES[:5].repeat(2, axis=1).repeat(2, axis=2)
    found = predictor(large, matrix)
    np.testing.assert_allclose(found.forecast_px, project(found.forecast_m, matrix), atol=1e-2)
    stream = predictor.stream(matrix)
    np.testing.assert_allclose(stream(large[0]).forecast_px, found.forecast_px[0], atol=1e-2)


def test_model_without_forecast_gives_none(predictor_of):
    predictor = predictor_of(**{"model.forecast.frames": 0})
    found, current = predictor(FRAMES[:5], MATRIX), predictor.stream(MATRIX)(FRAMES[0])
    assert (found.forecast_px, found.forecast_m, current.forecast_px, current.forecast_m) == (None,) * 4
    assert "forecast_px" not in results.table(found, 30.0).columns
    assert joined([found, found]).forecast_m is None


def test_table_holds_the_forecast_of_every_frame(predictor_of, tmp_path):
    found = predictor_of()(FRAMES, MATRIX)
    results.write(tmp_path, joined([found, found]), 30.0, {})
    table = pl.read_parquet(tmp_path / results.TABLE)
    assert table["forecast_px"].dtype == pl.Array(pl.Float32, (4, 42, 2))
    np.testing.assert_array_equal(table["forecast_m"].to_numpy(), np.concatenate([found.forecast_m] * 2))
    assert json.loads(pl.read_parquet_metadata(tmp_path / results.TABLE)["htt"])["frame_rate"] == 30


def test_drawn_frames_are_thirds_of_the_forecast():
    frames = np.arange(30)[:, None, None] * np.ones((1, 42, 2))
    assert shown_ahead(frames)[:, 0, 0].tolist() == [9, 19, 29]
    assert shown_ahead(frames[:1])[:, 0, 0].tolist() == [0, 0, 0]
    assert shown_ahead(frames[:4])[:, 0, 0].tolist() == [1, 2, 3]
    assert shown_ahead(None) is None


def test_forecast_hands_are_faint_and_below_those_of_the_frame():
    """The same hand 300 px to the right, later: its pixels are drawn weaker the later it is."""
    painter, black = Painter((960, 540), 1), np.zeros((540, 960, 3), np.uint8)
    joints = np.random.default_rng(1).uniform((100, 100), (200, 200), (21, 2))
    plain = State(joints, ("book", 1.0), [], 0.0)
    moved = np.stack([joints + np.array([shift, 0]) for shift in (150, 300, 600)])
    drawn = painter.paint(black, dataclasses.replace(plain, forecast_px=moved)).astype(int)[:540]
    alone = painter.paint(black, plain).astype(int)[:540]
    assert np.array_equal(drawn[:, 80:220], alone[:, 80:220])
    brightest = [drawn[:, 80 + shift : 220 + shift].max() for shift in (150, 300, 600)]
    np.testing.assert_allclose(brightest, 255 * np.array(FAINT), atol=2)
    assert not alone[:, 230:].any()


def test_states_of_a_video_hold_its_forecast(predictor_of):
    found = predictor_of()(FRAMES, MATRIX)
    segments = results.segments(found, 8)
    states = list(overlay.states(found, segments, 30.0))
    np.testing.assert_array_equal(states[3].forecast_px, found.forecast_px[3][[1, 2, 3]])


def test_published_model_forecasts_and_an_export_does_not(predictor_of, tmp_path, save):
    predictor = predictor_of(**{"model.forecast.action": True})
    publish(tmp_path / "checkpoint", tmp_path / "published")
    again = Predictor.load(tmp_path / "published")
    np.testing.assert_array_equal(again(FRAMES, MATRIX).forecast_m, predictor(FRAMES, MATRIX).forecast_m)
    model, _ = checkpoints.load(tmp_path / "checkpoint")
    export.export(model, tmp_path / "model.pt2", "torch")
    assert export.OUTPUTS == ("joints_raw", "joints_px", "depth_m", "joints_m", "object_logits", "action_logits")
    assert export.load(tmp_path / "model.pt2").record.info == predictor.info


def test_export_says_that_it_leaves_the_forecast_out(predictor_of, tmp_path, monkeypatch, capsys):
    def written(model, file, *_):
        del model
        file.write_bytes(b"")
        return 0.0

    monkeypatch.setattr(export, "export", written)
    words = ["--to", "torch", "--checkpoint", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "model.pt2")]
    for frames, said in ((4, True), (0, False)):
        predictor_of(**{"model.forecast.frames": frames})
        console.run(command.Options, command.main, words)
        shown = " ".join(capsys.readouterr().err.split())
        assert ("note: the exported model does not forecast: model.forecast is left out." in shown) == said
