"""What taught the encoder that the benchmark starts from (``model.backbone.weights: rendered``): single frames.

Short clips of another rendered world than the benchmark's (seed 1: other motions, objects, rooms and head paths, of the
same training subjects), a window of one frame, no loss for the action. An encoder that never saw two frames together
owes nothing to what a study compares: how frames are joined. To teach it again::

    python cluster/launch.py --preset encoder --name encoder
    python cluster/launch.py --preset bench --set model.backbone.weights=runs/encoder/checkpoint
"""

from htt.config import Value
from htt.presets import bench

PRESET: dict[str, Value] = {
    **bench.PRESET,
    "data.synthetic.seed": 1,
    # Frames of one clip resemble one another: many short clips teach more than few long ones.
    "data.synthetic.train_clips": 4320,
    "data.synthetic.frames": 12,
    "model.backbone.weights": None,
    "model.pose.window": 1,
    "model.action.length": 12,
    "loss.action": 0.0,
    "optim.lr": 2e-3,
    "train.batch_size": 8,
    "train.epochs": 12,
}
"""What the encoder's training changes in ``Config()``."""
