"""The embedded benchmark: a small HTT on the rendered world, trained in about three minutes on one core.

Four variants with six seeds each are to run in 40 minutes on two cores: 5 epochs of 756 clips, some 97,000 frames at
96x54. Departs from the paper in every size; what is compared is the same: a window for the pose, cues for the action,
a clip-level block A. As in the paper the encoder starts from weights learned elsewhere and is trained on.
"""

from htt.config import Value
from htt.presets import quick

PRESET: dict[str, Value] = {
    **quick.PRESET,
    # 21 rounds of the 36 actions to learn from; enough clips to compare on that one of them counts half a per cent.
    "data.synthetic.train_clips": 756,
    "data.synthetic.val_clips": 216,
    "data.synthetic.test_clips": 72,
    "data.synthetic.frames": 32,
    "model.backbone.weights": "rendered",
    # One layer in each block, for time.
    "model.pose.depth": 1,
    "model.pose.window": 16,
    "model.action.depth": 1,
    "loss.joints_px": 0.8,
    "loss.depth_m": 60.0,
    "loss.action": 2.0,
    "optim.lr": 1.5e-3,
    # Many small steps rather than few large ones, in the same time.
    "train.batch_size": 3,
    "train.epochs": 5,
}
"""What the study changes in ``Config()``."""
