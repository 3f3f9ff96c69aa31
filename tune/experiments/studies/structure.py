"""Study of the model structure: the paper's cascade, one transformer, or parallel heads. Source: Wen et al. 2023."""

from htt.evaluation.published import published
from tune.experiments.study import Study

STUDY = Study(
    question="Does it help to predict actions from hands and object, in two consecutive blocks?",
    variants={
        "cascade": {},
        "one transformer": {
            "model.pose.window": 128,
            "model.pose.depth": 4,
            "model.action.block": "mean",
            "model.action.cues": ["feature"],
        },
        "parallel heads": {"model.action.cues": ["feature"]},
    },
    reference="cascade",
    base={
        "data.shifted_starts": False,  # otherwise the number of steps depends on block P's window
        "model.pose.block": "transformer",
        "model.pose.window": 16,
        "model.pose.depth": 2,
        "model.action.block": "transformer",
        "model.action.depth": 2,
        "model.action.length": 128,
        "model.action.cues": ["feature", "hands", "object"],
    },
    paper_value={"cascade": published("h2o", "val")},
    notes={
        "cascade": "The paper's number is from a training with shifted starts.",
        "one transformer": "Four layers over the whole window; the mean of its frames is classified, not a token.",
        "parallel heads": "Hands, object and block A each read block P's tokens; none receives another's output.",
    },
)
