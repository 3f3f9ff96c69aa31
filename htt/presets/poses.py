"""Block A alone on the joints that come with the data, without images: an action from a skeleton, in minutes.

For data of which only the poses exist, such as FPHA's 1,175 clips, and as a bound: how well actions could be
recognised if hands were known exactly. ``python -m htt.data.convert --poses-only`` makes shards of poses; of shards of
frames, the joints are used and the images are not read.
"""

from htt.config import Value

PRESET: dict[str, Value] = {
    "data.spacing": 2,
    "model.width": 128,
    "model.backbone.name": "none",
    "model.pose.block": "identity",
    "model.action.cues": ("hands",),
    "model.action.given": ("hands",),
    "model.action.hands": "3d",
    "model.action.length": 64,
    "model.action.heads": 4,
    "model.action.feedforward": 256,
    "model.action.dropout": 0.1,
    # Units in which block A gets x and y (px) and the depth of a joint.
    "model.pose.pixel_scale": 100.0,
    "model.pose.depth_scale_m": 1e-3,
    "loss.joints_px": 0.0,
    "loss.depth_m": 0.0,
    "loss.object": 0.0,
    "optim.name": "adamw",
    "optim.lr": 1e-3,
    "optim.weight_decay": 0.01,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 1.0,
    "optim.clip_norm": 10.0,
    "train.epochs": 20,
    "train.batch_size": 8,
}
"""Changes of the training on poses to ``Config()``."""
