"""Whether batch norm should keep its stored statistics while training. Source: the released code keeps them."""

from tune.experiments.study import Study

STUDY = Study(
    question="Should batch norm keep its stored statistics while training?",
    variants={
        "frozen": {"model.backbone.batch_norm": "frozen"},
        "live": {"model.backbone.batch_norm": "live"},
    },
    reference="frozen",
    notes={"frozen": "Meant for pretrained weights; from random ones the stored statistics fit nothing."},
)
