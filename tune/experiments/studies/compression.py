"""Study of smaller networks: what width, layers and the image encoder cost in latency, and give in accuracy.

With a teacher, every variant also learns from it (``docs/export.md``)::

    python tune/ablate.py --study compression --set distill.teacher=/runs/NAME/checkpoint
"""

from htt.config import Value
from tune.experiments.study import Study


def blocks(feedforward: int = 2048, depth: int = 2) -> dict[str, Value]:
    """Return the sizes of both blocks."""
    parts = ("pose", "action")
    sizes = {"feedforward": feedforward, "depth": depth, "heads": 8}
    return {f"model.{part}.{name}": size for part in parts for name, size in sizes.items()}


STUDY = Study(
    question="How much smaller and faster can HTT be, and what does it cost?",
    variants={
        "paper's size": {},
        "half width": {"model.width": 256, **blocks(1024)},
        "quarter width": {"model.width": 128, **blocks(512)},
        "one layer": blocks(depth=1),
        "tiny ResNet": {"model.backbone.name": "resnet_tiny"},
        "tiny ResNet, quarter width": {"model.backbone.name": "resnet_tiny", "model.width": 128, **blocks(512)},
    },
    reference="paper's size",
    base={
        "model.width": 512,
        "model.pose.block": "transformer",
        "model.action.block": "transformer",
        **blocks(),
        "model.backbone.name": "resnet18",
        "model.backbone.trained": True,  # every encoder from random weights, because not all have others
        "model.backbone.weights": None,
        "model.backbone.batch_norm": "live",
    },
    metrics=("action_accuracy", "hand_error_mm", "latency_ms"),
    notes={
        "tiny ResNet": "A grid of 2 x 3 cells instead of one average keeps the position of hands in small images.",
    },
)
