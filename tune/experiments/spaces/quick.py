"""Default search space: a small HTT on the small rendered benchmark, for minutes on the cores of a laptop."""

from htt.presets.quick import PRESET
from tune.experiments.space import Choice, Integer, LogUniform, Space

SPACE = Space(
    {
        "model.pose.window": Choice(1, 4, 8, 16, why="how much motion block P needs; paper: 16 of 128 frames"),
        "model.action.length": Choice(8, 16, 32, why="how much of a clip block A needs; clips have 19 to 32 frames"),
        "model.pose.depth": Integer(1, 3, why="paper: 2"),
        "model.action.depth": Integer(1, 3, why="paper: 2"),
        "loss.joints_px": LogUniform(0.1, 1.0, why="paper: 1 at 480x270; a pixel is five times larger at 96x54"),
        "loss.action": LogUniform(0.3, 3.0, why="paper: 1; half a decade either side"),
        "optim.lr": LogUniform(3e-4, 3e-3, why="small networks from scratch learn at rates far above the paper's 3e-5"),
    },
    base=PRESET,
    description="A ResNet of widths 16 to 128 and two narrow blocks at 96x54: minutes on two cores.",
)
