"""Study of an image-only baseline: the paper's network without any loss or cue of hands and object.

The encoder is trained, because the features of a frozen one hold what it was taught of hands and object. The same is
true of weights to start from: ``--set model.backbone.weights=none --set model.backbone.batch_norm=live`` starts from
random ones.
"""

from tune.experiments.study import Study

FEATURE = {"model.action.cues": ["feature"]}

STUDY = Study(
    question="Do actions profit from hands and object at all: as cues, as tasks learned beside, or not?",
    variants={
        "HTT": {},
        "feature alone": FEATURE,
        "image only": {**FEATURE, "loss.joints_px": 0.0, "loss.depth_m": 0.0, "loss.object": 0.0},
    },
    reference="HTT",
    base={"model.backbone.trained": True, "data.shifted_starts": False},
    notes={
        "feature alone": "Hands and object are still learned, but not used by block A.",
        "image only": "Only actions are learned, so nothing is claimed of its hands and objects. Weights to start from "
        "may hold what they were taught of both.",
    },
)
