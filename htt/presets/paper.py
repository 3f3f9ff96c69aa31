"""The training of the paper, as released: the defaults, with ImageNet weights, on all training clips.

Source: Wen et al. 2023, section 4, and the released configuration (which names torchvision's weights).
"""

PRESET = {
    "model.backbone.weights": "timm/resnet18.tv_in1k",
    "data.held_out": 0.0,
}
