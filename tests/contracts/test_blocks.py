"""Every temporal block keeps to the contract of its kind."""

import pytest

from htt import registry
from htt.config import ActionConfig
from htt.model import blocks
from htt.testing import BlockContract


class TestBlocks(BlockContract):
    @pytest.fixture(params=registry.names(blocks))
    def name(self, request):
        return request.param


class TestCausalBlocks(TestBlocks):
    config = ActionConfig(depth=2, heads=2, feedforward=16, causal=True)
