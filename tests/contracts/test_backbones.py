"""Every image encoder keeps to the contract of its kind: those with a module, and the hub's."""

import pytest
from transformers import Dinov2Config, Dinov2Model, SwinConfig, SwinModel, ViTConfig, ViTModel

from htt import registry
from htt.model import backbones
from htt.testing import BackboneContract


class TestBackbones(BackboneContract):
    @pytest.fixture(params=registry.names(backbones))
    def name(self, request):
        return request.param


SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
NETWORKS = {
    "vit with a pooler": lambda: ViTModel(ViTConfig(**SMALL, intermediate_size=32, image_size=32, patch_size=16)),
    "vit without": lambda: ViTModel(
        ViTConfig(**SMALL, intermediate_size=32, image_size=32, patch_size=16), add_pooling_layer=False
    ),
    "dinov2": lambda: Dinov2Model(Dinov2Config(**SMALL, mlp_ratio=2, image_size=28, patch_size=14)),
    "swin": lambda: SwinModel(
        SwinConfig(embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4, image_size=32, patch_size=4)
    ),
}


class TestHubBackbones(BackboneContract):
    @pytest.fixture(params=NETWORKS)
    def name(self, request, tmp_path):
        NETWORKS[request.param]().save_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [1, 1, 1]}')
        return str(tmp_path)
