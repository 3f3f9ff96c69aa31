"""Study of the number of frames in a window of block A. Source: Wen et al. 2023, who choose 128."""

from htt.evaluation.published import published
from tune.experiments.study import Study

STUDY = Study(
    question="How much of a clip should block A see at once?",
    variants={f"{length} frames": {"model.action.length": length} for length in (8, 16, 32, 64, 128)},
    reference="128 frames",
    paper_value={"128 frames": published("h2o", "val")},
    notes={
        "8 frames": "Clips are cut into more windows, whose votes are summed. An epoch has the same frames in more "
        "windows, so it has more and smaller steps.",
        "128 frames": "On shorter clips, equal to any length that holds the whole clip.",
    },
)
