"""Study of a small network taught by a trained one, beside networks of other sizes that learn from labels alone.

All trainings read the stored features of one frozen encoder, which must be the teacher's (``docs/export.md``)::

    python tune/ablate.py --study student --preset bench --set distill.teacher=/runs/NAME/checkpoint \
        --set model.backbone.trained=false --set model.backbone.batch_norm=frozen --set data.augment.views=0
"""

from htt.config import Value
from tune.experiments.study import Study

ALONE: dict[str, Value] = {"distill.action": 0.0, "distill.pose": 0.0}


def size(width: int) -> dict[str, Value]:
    """Return the width of the model and of the hidden layers of both blocks."""
    return {"model.width": width, "model.pose.feedforward": 2 * width, "model.action.feedforward": 2 * width}


STUDY = Study(
    question="What does a teacher give a small HTT, compared with a larger network?",
    variants={
        "width 32": {**size(32), **ALONE},
        "width 32, taught": size(32),
        "width 64": {**size(64), **ALONE},
        "width 128": {**size(128), **ALONE},
    },
    reference="width 32",
    notes={"width 32, taught": "It also learns from the predictions of the checkpoint distill.teacher."},
)
