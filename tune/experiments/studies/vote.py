"""Study of the vote over a clip's windows: by probabilities (soft, as in the paper) or by predicted classes (hard).

Both are metrics of the same trial and are compared within it. They differ only if a clip has several windows, so one
variant has short windows.
"""

from tune.experiments.study import Study

STUDY = Study(
    question="Should the windows of a clip vote by probabilities or by predicted classes, and how long should they be?",
    variants={"long windows": {"model.action.length": 128}, "short windows": {"model.action.length": 8}},
    reference="long windows",
    metrics=("action_accuracy", "action_accuracy_hard"),
    contrasts=[("action_accuracy", "action_accuracy_hard")],
    notes={
        "long windows": "Clips of up to 128 x spacing frames have one window for each phase of the spacing.",
        "short windows": "An epoch has the same frames in more windows, so it has more steps.",
    },
)
