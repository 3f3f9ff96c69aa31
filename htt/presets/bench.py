"""The embedded benchmark: a small HTT on the rendered world, trained in about three minutes on one core.

Four variants with six seeds each are to run in 40 minutes on two cores: 7 epochs of 756 clips, some 140,000 frames at
96x54. Departs from the paper in every size; what is compared is the same: a window for the pose, cues for the action,
a clip-level block A.
"""

from htt.config import Value

PRESET: dict[str, Value] = {
    # 21 rounds of the 36 actions to learn from; enough clips to compare on that one of them counts half a per cent.
    "data.synthetic.train_clips": 756,
    "data.synthetic.val_clips": 216,
    "data.synthetic.test_clips": 72,
    "data.synthetic.frames": 32,
    "data.spacing": 1,
    "data.shifted_starts": False,
    "data.augment.hue": 0.0,
    "data.augment.saturation": 0.2,
    "data.augment.contrast": 0.2,
    "data.augment.brightness": 0.2,
    "data.augment.centre": 0.02,
    "data.augment.blur_px": 0.0,
    "model.width": 64,
    "model.backbone.name": "resnet_tiny",
    "model.backbone.batch_norm": "live",
    # One layer in each block, for time.
    "model.pose.depth": 1,
    "model.pose.heads": 4,
    "model.pose.feedforward": 128,
    "model.pose.window": 16,
    "model.pose.pixel_scale": 30.0,
    "model.pose.depth_scale_m": 2e-3,
    "model.pose.depth_offset_m": 0.55,
    "model.action.depth": 1,
    "model.action.heads": 4,
    "model.action.feedforward": 128,
    "model.action.length": 32,
    "loss.joints_px": 0.8,
    "loss.depth_m": 60.0,
    "loss.action": 2.0,
    "optim.name": "adamw",
    "optim.lr": 1.5e-3,
    "optim.weight_decay": 0.01,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 0.5,
    "optim.clip_norm": 10.0,
    # Many small steps rather than few large ones, in the same time.
    "train.batch_size": 3,
    "train.epochs": 7,
}
"""What the study changes in ``Config()``."""
