"""Study of a semantic cue: what each hand does in each frame, such as its grasp, predicted or true."""

from tune.experiments.study import Study

PAPERS = ["feature", "hands", "object"]
ALL = [*PAPERS, "hand_type"]

STUDY = Study(
    question="Does block A recognise more actions if it is told what each hand does?",
    variants={
        "HTT": {},
        "with hand type": {"model.action.cues": ALL},
        "true hand type": {"model.action.cues": ALL, "model.action.given": ["hand_type"]},
    },
    reference="HTT",
    base={"data.shifted_starts": False, "model.action.cues": PAPERS, "model.action.given": []},
    notes={
        "with hand type": "A head with a loss of its own predicts the type; block A sees its probabilities.",
        "true hand type": "Block A sees labels, so its accuracy is an upper bound, not a result.",
    },
)
