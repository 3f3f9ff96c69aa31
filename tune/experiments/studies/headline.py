"""Study of three claims of the paper: motion helps hands; hands and object, and the whole clip, help actions."""

from tune.experiments.study import Study

STUDY = Study(
    question="What do the short window, the cues of hands and object, and attention over the whole clip contribute?",
    variants={
        "HTT": {},
        "1 frame": {"model.pose.window": 1},
        "feature alone": {"model.action.cues": ["feature"]},
        "per-frame vote": {"model.action.block": "identity"},
    },
    reference="HTT",
    base={"data.shifted_starts": False},  # otherwise a short window of block P means fewer training windows
    notes={
        "1 frame": "Block P sees no motion; the claim is about the hand error.",
        "feature alone": "Hands and object are still learned, but not used by block A; the claim is about actions.",
        "per-frame vote": "Each frame predicts an action, and the clip's is their mean; the claim is about actions.",
    },
)
