"""Study of the true cues: how well actions would be recognised if hands, object or both were predicted perfectly."""

from tune.experiments.study import Study

ORACLES = {"true object": ["object"], "true hands": ["hands"], "true hands and object": ["hands", "object"]}

STUDY = Study(
    question="What limits the recognition of actions: the prediction of hands, that of the object, or block A?",
    variants={"HTT": {}, **{name: {"model.action.given": cues} for name, cues in ORACLES.items()}},
    reference="HTT",
    base={"data.shifted_starts": False, "model.action.cues": ["feature", "hands", "object"], "model.action.given": []},
    notes=dict.fromkeys(ORACLES, "Block A sees labels, so its accuracy is an upper bound, not a result."),
)
