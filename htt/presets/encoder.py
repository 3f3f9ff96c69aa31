"""Training of the encoder from which the benchmark starts (``model.backbone.weights: rendered``), on single frames.

It uses other clips than the benchmark: short ones of seed 1, with other motions, rooms and head paths but the same
eight objects and training subjects. The window has one frame and the action has no loss. The encoder never sees two
frames together, so it favours none of the ways to combine frames that a study compares. To train it again::

    python cluster/launch.py --preset encoder --name encoder
    python cluster/launch.py --preset bench --set model.backbone.weights=runs/encoder/checkpoint
"""

from htt.config import Value
from htt.presets import bench

PRESET: dict[str, Value] = {
    **bench.PRESET,
    "data.synthetic.seed": 1,
    # Frames of one clip are similar, so many short clips are more useful than few long ones.
    "data.synthetic.train_clips": 4320,
    "data.synthetic.frames": 12,
    "model.backbone.weights": None,
    "model.pose.window": 1,
    "model.action.length": 12,
    "loss.action": 0.0,
    "optim.lr": 2e-3,
    "train.batch_size": 8,
    "train.epochs": 18,
}
"""Changes of the encoder's training to ``Config()``."""
