"""Test helpers, shipped with the package so that your own plug-ins can be tested by the same contracts.

``tiny_config``, ``tiny_info`` and ``random_batch`` create the surroundings of a whole model that runs in milliseconds.
A contract is a class of tests for one kind of plug-in; a test module inherits it and names the tested plug-ins::

    class TestMyBlock(BlockContract):
        @pytest.fixture
        def name(self):
            return "my_block"

``htt.testing.trees`` writes small H2O and FPHA folders in the formats of the downloads, and returns their content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from htt import camera
from htt.batch import Batch, Forecast, Prediction
from htt.config import Config, override
from htt.info import DataInfo
from htt.testing.contracts import BackboneContract, BlockContract

__all__ = [
    "TINY",
    "BackboneContract",
    "BlockContract",
    "random_batch",
    "random_prediction",
    "tiny_config",
    "tiny_info",
]

TINY: dict[str, Any] = {
    "data.spacing": 1,
    "data.synthetic.train_clips": 4,
    "data.synthetic.val_clips": 2,
    "data.synthetic.test_clips": 2,
    "data.synthetic.frames": 8,
    "data.synthetic.width": 64,
    "data.synthetic.height": 36,
    "model.width": 32,
    "model.backbone.name": "resnet_tiny",
    "model.pose.window": 4,
    "model.pose.depth": 1,
    "model.pose.heads": 2,
    "model.pose.feedforward": 64,
    "model.action.length": 8,
    "model.action.depth": 1,
    "model.action.heads": 2,
    "model.action.feedforward": 64,
    "train.epochs": 2,
    "optim.lr": 1e-3,
    "runtime.tensorboard": False,
}
"""Fields that ``tiny_config`` changes: every part is small, and none is left out."""


def tiny_config(**overrides: Any) -> Config:
    """Return a configuration that trains in seconds: ``tiny_config(**{"model.pose.window": 3})``."""
    return override(Config(), {**TINY, **overrides})


def tiny_info(hands: int = 2) -> DataInfo:
    """Return facts of data that fit ``tiny_config``: four actions, three objects, three hand types, 64 x 36 px."""
    actions, objects = ("pour", "open", "close", "read"), ("milk", "book", "lotion")
    return DataInfo("tiny", actions, objects, hands, 64, 36, hand_types=("rest", "reach", "side"))


def random_batch(
    info: DataInfo, lengths: Sequence[int] = (5, 8), seed: int = 0, padding: int = 0, ahead: int = 0
) -> Batch:
    """Return a batch of random numbers in which every label and joint is known.

    Args:
        info: facts of the data to imitate.
        lengths: frames of each window.
        seed: random seed of all values.
        padding: further slots without a frame, after the longest window.
        ahead: frames after each frame whose joints are known too, as for ``model.forecast.frames``.
    """
    random = torch.Generator().manual_seed(seed)
    frames, kinds = sum(lengths), len(info.hand_types)
    valid = torch.arange(max(lengths) + padding) < torch.tensor(lengths)[:, None]
    intrinsics = torch.tensor(
        [[info.width, 0.0, info.width / 2], [0.0, 1.1 * info.width, info.height / 2], [0.0, 0.0, 1.0]]
    )
    joints_m = torch.rand(frames, info.joints, 3, generator=random) * 0.4 + torch.tensor([-0.2, -0.2, 0.3])
    batch = Batch(
        frames=torch.randint(0, 256, (frames, 3, info.height, info.width), generator=random, dtype=torch.uint8),
        valid=valid,
        intrinsics=intrinsics.expand(len(lengths), 3, 3).clone(),
        joints_m=joints_m,
        joints_px=camera.project(joints_m, intrinsics),
        joint_valid=torch.ones(joints_m.shape[:2], dtype=torch.bool),
        object=torch.randint(0, len(info.objects), (frames,), generator=random),
        action=torch.randint(0, len(info.actions), (len(lengths),), generator=random),
        clip=torch.arange(len(lengths)),
        frame=valid.nonzero()[:, 1],
        view=torch.zeros(len(lengths), dtype=torch.long),
        hand_type=torch.randint(0, kinds, (frames, info.hands), generator=random) if kinds else None,
    )
    if not ahead:
        return batch
    moved_m = 0.01 * torch.randn(frames, ahead, info.joints, 3, generator=random).cumsum(dim=1)
    ahead_m = torch.cat([joints_m[:, None], joints_m[:, None] + moved_m], dim=1)
    valid = torch.ones(ahead_m.shape[:-1], dtype=torch.bool)
    return replace(batch, ahead_m=ahead_m, ahead_px=camera.project(ahead_m, intrinsics), ahead_valid=valid)


def random_prediction(info: DataInfo, batch: Batch, seed: int = 0) -> Prediction:
    """Return a prediction for a batch: hand errors of some centimetres, random classes."""
    random = torch.Generator().manual_seed(seed)
    joints_m = batch.joints_m + 0.03 * torch.randn(batch.joints_m.shape, generator=random)
    frames, windows, kinds = len(batch.frames), len(batch.valid), len(info.hand_types)
    forecast = None
    if batch.ahead_m is not None and batch.ahead_px is not None:
        ahead_m = batch.ahead_m + 0.03 * torch.randn(batch.ahead_m.shape, generator=random)
        forecast = Forecast(
            batch.ahead_px + torch.randn(batch.ahead_px.shape, generator=random), ahead_m[..., 2], ahead_m
        )
    return Prediction(
        joints_raw=torch.randn(joints_m.shape, generator=random),
        joints_px=batch.joints_px + torch.randn(batch.joints_px.shape, generator=random),
        depth_m=joints_m[..., 2],
        joints_m=joints_m,
        object_logits=torch.randn(frames, len(info.objects), generator=random),
        action_logits=torch.randn(windows, len(info.actions), generator=random),
        hand_type_logits=torch.randn(frames, info.hands, kinds, generator=random) if kinds else None,
        forecast=forecast,
    )
