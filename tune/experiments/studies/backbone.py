"""Study of the image encoder, from random weights: ResNet-18 as in the paper, or a small ResNet for small images.

A pretrained model, such as one of the Hugging Face hub, is one more variant if its weights are available:
``"DINOv2": {"model.backbone.name": "facebook/dinov2-small", "model.backbone.weights": "facebook/dinov2-small"}``.
"""

from tune.experiments.study import Study

STUDY = Study(
    question="Is a larger image encoder worth its time?",
    variants={
        "ResNet-18": {"model.backbone.name": "resnet18"},
        "tiny ResNet": {"model.backbone.name": "resnet_tiny"},
    },
    reference="ResNet-18",
    base={"model.backbone.trained": True, "model.backbone.weights": None, "model.backbone.batch_norm": "live"},
    metrics=("action_accuracy", "hand_error_mm", "latency_ms"),
    notes={"tiny ResNet": "A grid of 2 x 3 cells instead of one average keeps the position of hands in small images."},
)
