"""Study of two factors: frames in a window of block P, and inputs of block A. Source: Wen et al. 2023."""

from htt.config import Value
from tune.experiments.designs import factorial
from tune.experiments.study import Study

FACTORS: dict[str, dict[str, dict[str, Value]]] = {
    "window": {"16 frames": {"model.pose.window": 16}, "1 frame": {"model.pose.window": 1}},
    "cues": {
        "all cues": {"model.action.cues": ["feature", "hands", "object"]},
        "feature alone": {"model.action.cues": ["feature"]},
    },
}

STUDY = Study(
    question="Do the short window and the cues of hands and object improve the results independently of each other?",
    variants=factorial(**FACTORS),
    reference="16 frames, all cues",
    base={"data.shifted_starts": False},  # otherwise the number of steps depends on block P's window
    factors=FACTORS,
    notes={"1 frame, feature alone": "Block P sees no motion, and block A gets neither hands nor object."},
)
