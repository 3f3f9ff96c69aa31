"""Search space over block A alone, on the joints of the data without images; minutes on the cores of a laptop."""

from htt.presets.poses import PRESET
from tune.experiments.space import Choice, Integer, LogUniform, Space

SPACE = Space(
    {
        "model.action.block": Choice("transformer", "lstm", "mean", why="does the order of frames tell the action?"),
        "model.action.length": Choice(16, 32, 64, 128, why="how much of a clip block A needs; paper: 128"),
        "model.action.depth": Integer(1, 4, why="paper: 2"),
        "model.action.heads": Choice(2, 4, 8, why="paper: 8 of 64 features each"),
        "model.action.dropout": Choice(0.0, 0.1, 0.3, why="released: 0; data sets of skeletons are small"),
        "model.action.hands": Choice("2d", "3d", why="the released code tells block A of x and y alone"),
        "model.width": Choice(64, 128, 256, why="paper: 512, for features of images"),
        "data.spacing": Choice(1, 2, 4, why="paper: every other frame"),
        "optim.lr": LogUniform(3e-4, 3e-3, why="small networks from scratch learn at rates far above the paper's 3e-5"),
        "optim.weight_decay": LogUniform(1e-3, 0.3, why="0.01 in the preset; few clips may want more"),
    },
    # Any length and spacing gives as many steps: an epoch takes some of the windows.
    base={**PRESET, "train.windows_per_epoch": 600},
    description="Block A alone on given joints, without images: poses of any data set, such as FPHA.",
)
