"""Every temporal block keeps to the contract of its kind."""

import pytest

from htt import registry
from htt.model import blocks
from htt.testing import BlockContract


class TestBlocks(BlockContract):
    @pytest.fixture(params=registry.names(blocks))
    def name(self, request):
        return request.param
