"""The recipe of the paper, as its authors released it: the defaults, from ImageNet's weights, on all training clips.

Source: Wen et al. 2023, section 4, and the released configuration (its weights are named there as torchvision's).
"""

PRESET = {
    "model.backbone.weights": "timm/resnet18.tv_in1k",
    "data.held_out": 0.0,
}
