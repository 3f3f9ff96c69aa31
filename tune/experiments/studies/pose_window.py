"""Study of the number of frames in a window of block P. Source: Wen et al. 2023, who compare 1, 16 and 128."""

from htt.evaluation.published import published
from tune.experiments.study import Study

STUDY = Study(
    question="How many frames should block P see?",
    variants={f"{k} frame{'s' if k > 1 else ''}": {"model.pose.window": k} for k in (1, 4, 8, 16, 32, 128)},
    reference="16 frames",
    base={"data.shifted_starts": False},  # window x spacing shifted starts: the steps per epoch would differ
    primary=("1 frame", "128 frames"),  # the paper's own comparisons
    paper_value={"16 frames": published("h2o", "val")},
    notes={
        "16 frames": "The paper's number is from a training with shifted starts.",
        "128 frames": "On shorter clips, equal to any window that holds the whole clip.",
    },
)
