"""The preset ``paper`` is the released recipe, number by number as the reference gives them."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from htt.config import Config, changed
from htt.data.loading.windows import evaluation_windows, training_windows
from htt.data.sources.h2o import H2OSource
from htt.errors import ConfigError
from htt.info import DataInfo
from htt.losses import losses, total
from htt.model.htt import HTT
from htt.registry import preset
from htt.testing import random_batch, random_prediction, tiny_info
from htt.training import optim
from htt.training.augment import augment

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def paper() -> Config:
    return preset("paper")


def h2o_frame_counts(tmp_path: Path, split: str) -> list[int]:
    (tmp_path / "action_labels").symlink_to(GOLDEN / "h2o_labels")
    return [key.frames for key in H2OSource(tmp_path).clips(split)]


def test_paper_preset_changes_only_weights_and_held_out_clips(paper: Config) -> None:
    assert changed(paper, Config()) == {"model.backbone.weights": "timm/resnet18.tv_in1k", "data.held_out": 0.0}


def test_unknown_preset_lists_available_ones() -> None:
    with pytest.raises(ConfigError, match=r"No 'papre' in presets\. Available: .*paper.*\. Did you mean 'paper'\?"):
        preset("papre")


def test_training_windows_are_those_of_the_released_code(paper: Config, tmp_path: Path) -> None:
    windows = training_windows(h2o_frame_counts(tmp_path, "train"), paper)
    assert len(windows) == 18_765
    assert len(windows) * paper.model.action.length == 2_401_920
    assert windows.frame_count.sum() == 755_436
    assert paper.model.pose.window * paper.data.spacing == 32, "starts 0 to 31 of each chunk"


def test_evaluation_windows_see_each_frame_once(paper: Config, tmp_path: Path) -> None:
    windows = evaluation_windows(h2o_frame_counts(tmp_path, "val"), paper)
    assert (len(windows), windows.frame_count.sum()) == (254, 11_638)
    assert paper.data.spacing == 2


def test_paper_network_equals_the_published_one(paper: Config) -> None:
    model = paper.model
    assert (model.width, model.backbone.name, model.backbone.normalise) == (512, "resnet18", None)
    for block in (model.pose, model.action):
        assert (block.block, block.depth, block.heads) == ("transformer", 2, 8)
        assert (block.feedforward, block.dropout) == (2048, 0)
    assert (model.pose.window, model.action.length) == (16, 128)
    assert model.action.cues == ("feature", "hands", "object")
    assert (model.action.hands, model.pose.back_projection) == ("2d", "focal_x")
    assert (model.pose.pixel_scale, model.pose.depth_scale_m, model.pose.depth_offset_m) == (100, 1e-4, 0.4)


def test_batch_norm_and_dropout_stand_still_while_training(paper: Config) -> None:
    small = paper.model.model_copy(update={"backbone": paper.model.backbone.model_copy(update={"weights": None})})
    model = HTT(small, tiny_info()).train()
    norms = [part for part in model.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 20, "a ResNet-18 has 20"
    assert not any(norm.training for norm in norms)
    assert all(part.p == 0 for part in model.modules() if isinstance(part, torch.nn.Dropout))


def test_paper_loss_equals_the_released_one(paper: Config) -> None:
    info = tiny_info()
    batch = random_batch(info)
    prediction = dataclasses.replace(
        random_prediction(info, batch), hand_type_logits=None
    )  # the paper has no such head
    known = {name: mean.value.item() for name, mean in losses(prediction, batch).items()}
    expected_px = (prediction.joints_px - batch.joints_px).abs().mean().item()
    expected_m = (prediction.depth_m - batch.joints_m[..., 2]).abs().mean().item()
    assert known["joints_px"] == pytest.approx(expected_px, rel=1e-5)
    assert known["depth_m"] == pytest.approx(expected_m, rel=1e-5)
    whole = expected_px + 100 * expected_m + known["object"] + known["action"]
    assert total(losses(prediction, batch), paper.loss).item() == pytest.approx(whole, rel=1e-5)


def test_paper_schedule_halves_the_rate_every_15_epochs(paper: Config) -> None:
    rates = [optim.learning_rate(paper.optim, epoch * 10, 10, paper.train.epochs) for epoch in range(45)]
    assert rates == [3e-5] * 15 + [1.5e-5] * 15 + [0.75e-5] * 15
    used = optim.optimizer(paper.optim, [torch.nn.Parameter(torch.zeros(2))])
    assert type(used) is torch.optim.Adam
    assert used.param_groups[0]["weight_decay"] == 0
    train = paper.train
    assert (train.epochs, train.batch_size, train.seed, train.precision) == (45, 2, 0, "fp32")
    assert paper.optim.clip_norm is None
    assert paper.optim.warmup_epochs == 0


def test_paper_augmentation_has_the_released_ranges(paper: Config) -> None:
    """Over many windows: centre jitter within 10 % of the width along both axes, the same for a window's frames."""
    config = paper.data.augment
    assert (config.hue, config.saturation, config.contrast, config.brightness) == (0.15, 0.5, 0.5, 0.5)
    assert config.blur_px == 0.5
    info = DataInfo("h2o", ("a",), ("o",), 2, 480, 27)
    batch = random_batch(info, [2] * 64)
    seen = augment(batch, config, torch.Generator().manual_seed(0))
    moved = (seen.joints_px - batch.joints_px)[:, 0].round().reshape(64, 2, 2).numpy()
    np.testing.assert_array_equal(moved[:, 0], moved[:, 1], "the frames of a window move together")
    for axis in (0, 1):
        assert 40 < np.abs(moved[..., axis]).max() <= 48, "10 % of 480 px"
    np.testing.assert_array_equal(seen.intrinsics, batch.intrinsics, "the camera stays")
