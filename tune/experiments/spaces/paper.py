"""Search space around the paper's recipe: windows, depths, dropout, loss weights and learning rate; for GPUs."""

from htt.presets.paper import PRESET
from tune.experiments.space import Choice, Integer, LogUniform, Space

SPACE = Space(
    {
        "model.pose.window": Choice(
            1, 4, 8, 16, 32, 64, 128, why="paper: 16, better than 1 and 128; what lies between is not reported"
        ),
        "model.action.length": Choice(32, 64, 128, 256, why="paper: 128; a shorter one is cheaper, a longer one whole"),
        "model.pose.depth": Integer(1, 4, why="paper: 2"),
        "model.action.depth": Integer(1, 4, why="paper: 2"),
        "model.action.hands": Choice("2d", "3d", why="the released code tells block A of x and y alone"),
        "model.pose.dropout": Choice(0.0, 0.1, 0.2, why="released: 0; small data sets may want some"),
        "loss.joints_px": LogUniform(0.3, 3.0, why="paper: 1; half a decade either side"),
        "loss.depth_m": LogUniform(30.0, 300.0, why="paper: 100; half a decade either side"),
        "loss.object": LogUniform(0.3, 3.0, why="paper: 1; half a decade either side"),
        "loss.action": LogUniform(0.3, 3.0, why="paper: 1; half a decade either side"),
        "optim.lr": LogUniform(1e-5, 3e-4, why="paper: 3e-5; half a decade below, a decade above"),
        "optim.backbone_lr_factor": LogUniform(0.1, 1.0, why="paper: 1; a pretrained encoder may need smaller steps"),
        "train.label_smoothing": Choice(0.0, 0.1, why="paper: 0; few clips per action may want some"),
        "train.ema": Choice(0.0, 0.999, why="paper: 0; an average of the weights needs no decay of the rate"),
    },
    base={**PRESET, "data.held_out": 0.1},  # FPHA has no validation split to select by
    description="The paper's recipe for H2O, varied in what the paper says matters. Wants GPUs and --set data.root=...",
)
