r"""Study of smaller blocks: what width and layers cost in latency, and give in accuracy.

On features of a frozen encoder, a training takes a minute or less::

    python tune/ablate.py --study compression --preset quick --set model.backbone.weights=rendered \
        --set model.backbone.trained=false --set model.backbone.batch_norm=frozen --set data.augment.views=0 \
        --set train.epochs=10 --set train.batch_size=8

With ``--set distill.teacher=/runs/NAME/checkpoint``, every variant also learns from a teacher (``docs/export.md``).
"""

from htt.config import Value
from tune.experiments.study import Study


def blocks(width: int) -> dict[str, Value]:
    """Return the sizes of both blocks, in the proportions of the paper."""
    sizes = {"feedforward": 4 * width, "depth": 2, "heads": 8}
    own = {f"model.{part}.{name}": size for part in ("pose", "action") for name, size in sizes.items()}
    return {"model.width": width, **own}


STUDY = Study(
    question="How much smaller and faster can HTT be, and what does it cost?",
    variants={
        "width 512": {},
        "width 512, one layer": {"model.pose.depth": 1, "model.action.depth": 1},
        "width 256": blocks(256),
        "width 128": blocks(128),
        "width 64": blocks(64),
    },
    reference="width 512",
    base={"model.pose.block": "transformer", "model.action.block": "transformer", **blocks(512)},
    metrics=("action_accuracy", "hand_error_mm", "latency_ms"),
    notes={
        "width 512": "The paper's size: width 512, hidden layers of 2048, two layers of 8 heads in each block.",
        "width 512, one layer": "One layer in each block.",
    },
)
