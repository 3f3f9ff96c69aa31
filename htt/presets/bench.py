"""The embedded benchmark: a small HTT on rendered clips, trained in about three minutes on one core.

Four variants with six seeds each should run in 40 minutes on two cores: 5 epochs of 756 clips, about 97,000 frames at
96x54. All sizes depart from the paper, but the compared parts are the same: a window for the pose, cues for the action,
and a clip-level block A. As in the paper, the encoder starts from pretrained weights and is trained further.
"""

from htt.config import Value
from htt.presets import quick

PRESET: dict[str, Value] = {
    **quick.PRESET,
    # 21 training clips of each of the 36 actions; 216 validation clips, so that one clip is half a per cent.
    "data.synthetic.train_clips": 756,
    "data.synthetic.val_clips": 216,
    "data.synthetic.test_clips": 72,
    "data.synthetic.frames": 32,
    "model.backbone.weights": "rendered",
    # One layer in each block, to save time.
    "model.pose.depth": 1,
    "model.pose.window": 16,
    "model.action.depth": 1,
    "loss.joints_px": 0.8,
    "loss.depth_m": 60.0,
    "loss.action": 2.0,
    "optim.lr": 1.5e-3,
    # A small batch gives many small steps in the same time.
    "train.batch_size": 3,
    "train.epochs": 5,
}
"""Changes of the benchmark to ``Config()``."""
