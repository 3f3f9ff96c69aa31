"""Study of batch norm in training: stored or live statistics. Source: the released code keeps the stored ones."""

from tune.experiments.study import Study

STUDY = Study(
    question="Should batch norm keep its stored statistics while training?",
    variants={
        "frozen": {"model.backbone.batch_norm": "frozen"},
        "live": {"model.backbone.batch_norm": "live"},
    },
    reference="frozen",
    base={"model.backbone.trained": True},
    notes={"frozen": "Meant for pretrained weights; with random weights the stored statistics are meaningless."},
)
