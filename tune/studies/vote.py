"""How a clip's windows should vote: by their probabilities (soft) or by their answers (hard).

Both are metrics of one and the same training. They differ only where a clip has several windows, so there is a variant
whose windows are short.
"""

from tune.study import Study

STUDY = Study(
    question="Should the windows of a clip vote by their probabilities or by their answers?",
    variants={"long windows": {"model.action.length": 128}, "short windows": {"model.action.length": 8}},
    reference="long windows",
    metrics=("action_accuracy", "action_accuracy_hard"),
    notes={"long windows": "Clips of up to 128 x spacing frames have one window for each phase of the spacing."},
)
