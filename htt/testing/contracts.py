"""Contracts: a class of tests for every kind of plug-in, which a test module inherits; see ``htt.testing``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from htt.config import ActionConfig, BackboneConfig
from htt.model import blocks
from htt.model.features import open_backbone
from htt.registry import load


class BlockContract:
    """Contract of every module of htt/model/blocks; a fixture ``name`` gives the tested module."""

    width = 12
    config = ActionConfig(depth=2, heads=2, feedforward=16)

    def build(self, name: str) -> nn.Module:
        """Return the block as block P, with the same weights every time."""
        torch.manual_seed(0)
        block: nn.Module = load(blocks, name).build(self.width, self.config)
        return block.eval()

    def readout(self, name: str) -> nn.Module:
        """Return the block as block A, with the same weights every time."""
        torch.manual_seed(0)
        readout: nn.Module = load(blocks, name).readout(self.width, self.config)
        return readout.eval()

    def windows(self) -> tuple[Tensor, Tensor]:
        """Return three windows of up to six random tokens, and their validity."""
        tokens = torch.randn(3, 6, self.width, generator=torch.Generator().manual_seed(1))
        return tokens, torch.arange(6) < torch.tensor([6, 3, 1])[:, None]

    def test_one_output_a_token(self, name: str) -> None:
        """Check that the output has as many tokens as the input, of the same width."""
        tokens, valid = self.windows()
        assert self.build(name)(tokens, valid).shape == tokens.shape

    def test_one_answer_a_window(self, name: str) -> None:
        """Check that a window gives one row of finite logits."""
        tokens, valid = self.windows()
        logits = self.readout(name)(tokens, valid, nn.Linear(self.width, 5))
        assert logits.shape == (3, 5)
        assert logits.isfinite().all()

    def test_padding_changes_nothing(self, name: str) -> None:
        """Check that neither the values nor the amount of padding change a valid output."""
        tokens, valid = self.windows()
        head = nn.Linear(self.width, 5)
        block, readout = self.build(name), self.readout(name)
        other = torch.where(valid[..., None], tokens, 1e3)
        longer = nn.functional.pad(other, (0, 0, 0, 4), value=-1e3), nn.functional.pad(valid, (0, 4))
        torch.testing.assert_close(block(*longer)[longer[1]], block(tokens, valid)[valid])
        torch.testing.assert_close(readout(*longer, head), readout(tokens, valid, head))

    def test_windows_do_not_meet(self, name: str) -> None:
        """Check that a window gives the same output alone as among others."""
        tokens, valid = self.windows()
        head = nn.Linear(self.width, 5)
        block, readout = self.build(name), self.readout(name)
        for window in range(len(tokens)):
            one = tokens[window : window + 1], valid[window : window + 1]
            torch.testing.assert_close(block(*one)[0], block(tokens, valid)[window])
            torch.testing.assert_close(readout(*one, head)[0], readout(tokens, valid, head)[window])

    def test_every_parameter_learns(self, name: str) -> None:
        """Check that every parameter has a finite gradient; without one, several workers would wait forever."""
        tokens, valid = self.windows()
        head = nn.Linear(self.width, 5)
        block, readout = self.build(name).train(), self.readout(name).train()
        (block(tokens, valid)[valid].square().sum() + readout(tokens, valid, head).square().sum()).backward()
        for parameter in (*block.parameters(), *readout.parameters(), *head.parameters()):
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all()

    def test_attention_sums_to_one(self, name: str) -> None:
        """Check the attention of a block that has one: rows sum to 1, padding gets 0, and the output is unchanged."""
        tokens, valid = self.windows()
        block = self.build(name)
        attention: list[Tensor] = []
        torch.testing.assert_close(block(tokens, valid, attention), block(tokens, valid))
        for weights in attention:
            torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:-1]))
            assert weights[1, :, :, 3:].abs().max() == 0


class BackboneContract:
    """Contract of every module of htt/model/backbones; a fixture ``name`` gives the tested module."""

    options: dict[str, Any] = {}  # noqa: RUF012 -- a subclass gives its own

    def build(self, name: str) -> nn.Module:
        """Return the backbone, with the same weights every time."""
        torch.manual_seed(0)
        return open_backbone(BackboneConfig(name=name, **self.options)).eval()

    def frames(self, height: int = 36, width: int = 64) -> Tensor:
        """Return two random frames, normalised."""
        frames = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) - 0.5
        return frames.contiguous(memory_format=torch.channels_last)

    def test_one_feature_a_frame(self, name: str) -> None:
        """Check that features have the backbone's declared width, for an image of any size."""
        backbone = self.build(name)
        for size in ((36, 64), (54, 96), (64, 32)):
            feature = backbone(self.frames(*size))
            assert feature.shape == (2, backbone.width)
            assert feature.isfinite().all()

    def test_frames_do_not_meet(self, name: str) -> None:
        """Check that a frame gives the same output alone as among others."""
        backbone, frames = self.build(name), self.frames()
        torch.testing.assert_close(backbone(frames[:1])[0], backbone(frames)[0], rtol=1e-4, atol=1e-5)

    def test_every_parameter_learns(self, name: str) -> None:
        """Check that every parameter that requires a gradient has a finite one."""
        backbone = self.build(name)
        loss = backbone(self.frames()).square().sum()
        if loss.requires_grad:  # not without parameters
            loss.backward()
        for parameter in backbone.parameters():
            assert parameter.requires_grad == (parameter.grad is not None)
            assert parameter.grad is None or parameter.grad.isfinite().all()
