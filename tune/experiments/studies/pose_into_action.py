"""Study of the hand pose as input of block A: 2D, 3D or none."""

from tune.experiments.study import Study

STUDY = Study(
    question="Which hand pose should block A receive?",
    variants={
        "2D": {"model.action.hands": "2d"},
        "3D": {"model.action.hands": "3d"},
        "none": {"model.action.cues": ["feature", "object"]},
    },
    reference="2D",
    base={"model.action.cues": ["feature", "hands", "object"], "model.action.hands": "2d"},
    notes={"3D": "The raw output of the pose head: pixels and depth in its own units, not metres."},
)
