"""Default search space: a small HTT on the small rendered benchmark, for minutes on the cores of a laptop."""

from htt.presets.quick import PRESET
from tune.experiments.space import Choice, Integer, LogUniform, Space

FROZEN = {
    "model.backbone.weights": "rendered",
    "model.backbone.trained": False,
    "model.backbone.batch_norm": "frozen",
    "data.augment.views": 0,
    # Any length gives as many steps: shorter windows are more, and an epoch takes some of them.
    "train.windows_per_epoch": 324,
    "train.batch_size": 8,
    "train.epochs": 8,
    # Few steps: a wide network and a high rate reach more in them than the preset's.
    "model.width": 128,
    "optim.lr": 2e-3,
}
"""The image encoder is frozen: each image is encoded once for all trials, so a trial takes seconds."""

SPACE = Space(
    {
        "model.pose.window": Choice(1, 4, 8, 16, why="how much motion block P needs; paper: 16 of 128 frames"),
        "model.action.length": Choice(8, 16, 32, why="how much of a clip block A needs; clips have 19 to 32 frames"),
        "model.width": Choice(64, 128, why="paper: 512 at 480x270; small images hold less"),
        "model.pose.depth": Integer(1, 3, why="paper: 2"),
        "model.action.depth": Integer(1, 3, why="paper: 2"),
        "model.action.heads": Choice(2, 4, 8, why="paper: 8 of 64 features each"),
        "model.action.dropout": Choice(0.0, 0.1, 0.3, why="released: 0; nine clips of an action are few"),
        "loss.joints_px": LogUniform(0.1, 1.0, why="paper: 1 at 480x270; a pixel is five times larger at 96x54"),
        "loss.action": LogUniform(0.3, 3.0, why="paper: 1; half a decade either side"),
        "optim.lr": LogUniform(5e-4, 5e-3, why="small networks from scratch learn at rates far above the paper's 3e-5"),
        "optim.weight_decay": LogUniform(1e-3, 0.3, why="0.01 in the preset; few clips may want more"),
    },
    base={**PRESET, **FROZEN},
    description="Two narrow blocks on features of a small ResNet, trained on rendered images at 96x54 and frozen.",
)
