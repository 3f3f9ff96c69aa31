"""A study of the stand-in training: two rates against the best one."""

from tune.experiments.study import Study

STUDY = Study(
    question="Which rate?",
    variants={"1e-3": {}, "1e-2": {"optim.lr": 1e-2}, "1e-4": {"optim.lr": 1e-4}},
    reference="1e-3",
    base={"train.epochs": 4, "optim.lr": 1e-3},
    seeds=range(2),
    metrics=("hand_error_mm", "action_accuracy"),
)
