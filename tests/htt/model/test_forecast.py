"""The forecast: from frames seen so far alone, absent by default, and the last pose until it is trained."""

import dataclasses

import pytest
import torch

from htt import registry
from htt.batch import Layout, window_of_frame
from htt.config import override
from htt.errors import ConfigError
from htt.losses import losses
from htt.model import blocks
from htt.model.htt import HTT
from htt.registry import preset
from htt.testing import random_batch, tiny_config, tiny_info

BLOCKS = registry.names(blocks)
FRAMES = {"model.forecast.frames": 3}
ACTION = {**FRAMES, "model.forecast.action": True}


def model_of(trained: bool = True, **overrides) -> HTT:
    """A model, of which the forecast head has random weights if it is ``trained``."""
    torch.manual_seed(0)
    model = HTT(tiny_config(**{**FRAMES, **overrides}).model, tiny_info()).eval()
    if trained:
        torch.nn.init.normal_(model.forecast_head.displace.layers[-1].weight)
    return model


@torch.no_grad()
def forecast(model, batch):
    return model(batch.frames, batch.valid, batch.intrinsics).forecast


def test_model_without_forecast_has_its_parameters_and_predictions():
    batch = random_batch(tiny_info())
    torch.manual_seed(0)
    plain = HTT(tiny_config().model, tiny_info()).eval()
    ahead = model_of()
    state = ahead.state_dict()
    assert {name.partition(".")[0] for name in state.keys() - plain.state_dict().keys()} == {"forecast_head"}
    assert all(torch.equal(value, state[name]) for name, value in plain.state_dict().items()), "the same start"
    found, wanted = (model(batch.frames, batch.valid, batch.intrinsics) for model in (ahead, plain))
    assert wanted.forecast is None
    for field in dataclasses.fields(wanted)[:6]:
        assert torch.equal(getattr(found, field.name), getattr(wanted, field.name))


def test_untrained_forecast_keeps_the_last_pose():
    batch = random_batch(tiny_info())
    found = forecast(model_of(trained=False), batch)
    assert found.joints_px.shape == (13, 4, 42, 2)
    assert found.joints_m.shape == (13, 4, 42, 3)
    for part in found:
        assert torch.equal(part, part[:, :1].expand_as(part))


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("extra", [{}, {"model.forecast.action": True}])
def test_forecast_depends_on_no_later_frame(block, extra):
    """Windows of block P of 4 frames, in windows of 5 and 8: from any of them on, all images may change."""
    model = model_of(**extra, **{"model.pose.block": block, "model.action.block": block})
    batch = random_batch(tiny_info(), [5, 8])
    place, whole = batch.frame, forecast(model, batch)
    for last in range(8):
        frames = torch.where((place > last)[:, None, None, None], 255 - batch.frames, batch.frames)
        found = forecast(model, dataclasses.replace(batch, frames=frames))
        for part, wanted in zip(found, whole, strict=True):
            torch.testing.assert_close(part[place <= last], wanted[place <= last], rtol=1e-4, atol=1e-4)
        if last < 7:
            assert not torch.allclose(found.joints_m[place > last], whole.joints_m[place > last])


def test_forecast_sees_the_frames_of_a_window_of_block_p():
    """The frame k before the forecast's own does not matter, the next one does."""
    model, batch = model_of(), random_batch(tiny_info(), [8])
    whole = forecast(model, batch).joints_m
    for changed, moves in ((2, False), (3, True), (6, True)):
        frames = batch.frames.clone()
        frames[changed] = 255 - frames[changed]
        found = forecast(model, dataclasses.replace(batch, frames=frames)).joints_m
        assert torch.allclose(found[6], whole[6], atol=1e-5) != moves


def test_action_is_known_after_the_first_finished_window():
    """Windows of block P of 4 frames: block A matters from the fourth frame on, by the frames until then."""
    batch = random_batch(tiny_info(), [3, 8])
    model = model_of(**{"model.forecast.action": True})
    whole, place = forecast(model, batch).joints_m, batch.frame
    torch.nn.init.normal_(model.action_head.weight)
    found = forecast(model, batch).joints_m
    early = (place < 3) | (window_of_frame(batch.valid) == 0)
    assert torch.equal(found[early], whole[early])
    assert all(not torch.allclose(one, other) for one, other in zip(found[~early], whole[~early], strict=True))
    valid = torch.ones(1, 8, dtype=torch.bool)
    seen = model._action_so_far(torch.randn(1, 8, 32), valid, Layout.of(valid, 4))
    assert not seen[:3].any()
    assert torch.equal(seen[3], seen[6])
    assert not torch.equal(seen[6], seen[7])
    torch.testing.assert_close(seen[3:].sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("extra", [{}, {"model.forecast.action": True}])
@pytest.mark.parametrize("window", [1, 3, 4, 99])
def test_forecast_is_that_of_each_clip_alone_without_padding(extra, window):
    model = model_of(**extra, **{"model.pose.window": window})
    batch = random_batch(tiny_info(), [2, 7, 5], padding=2)
    found = forecast(model, batch)
    for clip in range(3):
        here = window_of_frame(batch.valid) == clip
        alone = random_batch(tiny_info(), [int(here.sum())])
        alone = dataclasses.replace(alone, frames=batch.frames[here], intrinsics=batch.intrinsics[clip : clip + 1])
        for part, wanted in zip(found, forecast(model, alone), strict=True):
            torch.testing.assert_close(part[here], wanted, rtol=1e-4, atol=1e-3)


def test_loss_of_the_forecast_trains_its_head_and_not_the_recognition():
    """The hands of a frame are trained by the frame itself: later frames add nothing to the pose head's gradient."""
    batch = random_batch(tiny_info(), ahead=3)
    model = model_of(**{"model.forecast.action": True}).train()
    terms = losses(model(batch.frames, batch.valid, batch.intrinsics), batch)
    assert list(terms)[-2:] == ["forecast_px", "forecast_depth_m"]
    (terms["forecast_px"].value + terms["forecast_depth_m"].value).backward()
    trained = {name.partition(".")[0] for name, value in model.named_parameters() if value.grad is not None}
    assert trained == {"features", "pose_block", "pose_head", "forecast_head"}
    assert all(value.grad is not None for value in model.forecast_head.parameters())
    first = [value.grad.clone() for value in model.pose_head.parameters()]
    model.zero_grad()
    valid = batch.ahead_valid.clone()
    valid[:, 1:] = False
    alone = dataclasses.replace(batch, ahead_valid=valid)
    terms = losses(model(batch.frames, batch.valid, batch.intrinsics), alone)
    (terms["forecast_px"].value + terms["forecast_depth_m"].value).backward()
    for all_frames, own in zip(first, (value.grad for value in model.pose_head.parameters()), strict=True):
        torch.testing.assert_close(4 * all_frames, own, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.forecast.frames": -1}, r"model\.forecast\.frames: .*greater than or equal to 0; got -1"),
        ({"model.forecast.frames": 301}, r"model\.forecast\.frames: .*less than or equal to 300; got 301"),
        ({"model.forecast.action": True}, r"model\.forecast: action is a cue of the forecast, .*frames 0\. Set model"),
        ({**ACTION, "model.action.given": ["hands"]}, r"given \['hands'\] gives block A labels, .* would pass them"),
    ],
)
def test_invalid_forecasts_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        tiny_config(**values)


def test_model_without_encoder_forecasts_nothing():
    with pytest.raises(
        ConfigError, match=r"name none trains block A alone.*: model\.forecast\.frames must be 0, got 3"
    ):
        override(preset("poses"), FRAMES)
