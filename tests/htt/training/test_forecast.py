"""Training of a forecast: parts of a step are the whole, it learns a motion, and an evaluation reads its labels."""

import dataclasses

import pytest
import torch

from htt.errors import CheckpointError
from htt.group import Group
from htt.model.htt import HTT
from htt.testing import random_batch, tiny_config, tiny_info
from htt.training import checkpoint, optim
from htt.training.augment import augment
from htt.training.checkpoint import Progress
from htt.training.loading import load_start
from htt.training.loop import evaluate, train_step
from htt.training.tasks import EvaluationJob

AHEAD = {"model.forecast.frames": 3, "model.forecast.action": True}


def stepped(config, batch):
    torch.manual_seed(0)
    model = HTT(config.model, tiny_info())
    terms = train_step(model, batch, optim.optimizer(config.optim, model.parameters()), config)
    return model, terms


def test_parts_of_a_step_are_the_whole_step():
    batch = random_batch(tiny_info(), [3, 8, 5], ahead=3)
    batch.ahead_valid[4:, 2:] = False
    config = tiny_config(**AHEAD, **{"optim.name": "sgd"})
    whole, terms = stepped(config, batch)
    parts, same = stepped(tiny_config(**AHEAD, **{"optim.name": "sgd", "train.parts": 3}), batch)
    assert list(terms) == list(same)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_head_learns_a_motion():
    """Hands that move 2 px to the right and 1 cm away a frame, from images of noise: the head learns it by its bias."""
    batch = random_batch(tiny_info(), [4, 6], ahead=3)
    steps = torch.arange(4.0)[:, None]
    ahead_px = torch.stack([20 + 2 * steps, 15 + 0 * steps], dim=-1).expand_as(batch.ahead_px)
    ahead_m = batch.ahead_m.clone()
    ahead_m[..., 2] = 0.4 + 0.01 * steps
    batch = dataclasses.replace(
        batch, ahead_px=ahead_px, ahead_m=ahead_m, joints_px=ahead_px[:, 0], joints_m=ahead_m[:, 0]
    )
    units = {"model.pose.pixel_scale": 10.0, "model.pose.depth_scale_m": 2e-3}
    config = tiny_config(**AHEAD, **units, **{"loss.object": 0.0, "loss.action": 0.0})
    torch.manual_seed(0)
    model = HTT(config.model, tiny_info())
    optimizer = optim.optimizer(config.optim, model.parameters())
    for _ in range(150):
        train_step(model, batch, optimizer, config)
    with torch.no_grad():
        found = model.eval()(batch.frames, batch.valid, batch.intrinsics).forecast
    moved_px = (found.joints_px[:, 1:] - found.joints_px[:, :1]).mean(dim=(0, 2))
    torch.testing.assert_close(moved_px, torch.tensor([[2.0, 0], [4, 0], [6, 0]]), rtol=0, atol=0.7)
    away_m = (found.depth_m[:, 1:] - found.depth_m[:, :1]).mean(dim=(0, 2))
    torch.testing.assert_close(away_m, torch.tensor([0.01, 0.02, 0.03]), rtol=0, atol=0.004)


def test_later_frames_move_with_an_augmented_image():
    config = tiny_config(**{"data.augment.centre": 0.3}).data.augment
    batch = random_batch(tiny_info(), [4, 6], ahead=3)
    seen = augment(batch, config, torch.Generator().manual_seed(1))
    moved = seen.joints_px - batch.joints_px
    assert moved.abs().max() > 1
    torch.testing.assert_close(seen.ahead_px - batch.ahead_px, moved[:, None].expand_as(batch.ahead_px))
    torch.testing.assert_close(seen.ahead_px[:, 0], seen.joints_px)


def save(folder, config, info):
    torch.manual_seed(0)
    model = HTT(config.model, info)
    optimizer = optim.optimizer(config.optim, model.parameters())
    return checkpoint.save(folder, model, optimizer, Progress(1), config, info, {})


@pytest.mark.parametrize("asked", [{}, {"model.forecast.frames": 0, "model.forecast.action": False}])
def test_evaluation_reads_the_labels_that_the_model_forecasts(tiny_splits, tmp_path, asked):
    config = tiny_config(**AHEAD)
    folder = save(tmp_path / "checkpoint", config, tiny_splits.info)
    found = EvaluationJob(folder, tiny_config(**{**AHEAD, **asked}), "val")(Group(), lambda _: None).result()
    expected = evaluate(checkpoint.load(folder)[0], tiny_splits.val, config).result()
    assert found == expected
    assert found["forecast_error_mm"] == pytest.approx(found["forecast_kept_error_mm"]), "the head is not trained"
    assert found["forecast_velocity_error_mm"] != found["forecast_kept_error_mm"]
    assert {"loss_forecast_px", "loss_forecast_depth_m"} <= {*found}


def test_start_without_a_forecast_is_refused(tiny_splits, tmp_path):
    folder = save(tmp_path / "checkpoint", tiny_config(), tiny_splits.info)
    config = tiny_config(**AHEAD, **{"model.weights": str(folder)})
    with pytest.raises(CheckpointError, match=r"model\.forecast\.frames 0 in the checkpoint, 3 here"):
        load_start(HTT(config.model, tiny_splits.info))
