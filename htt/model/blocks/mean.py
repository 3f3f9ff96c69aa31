"""Mean pooling: every token becomes the mean of its window; departs from the paper, for ablations."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from htt.config import ActionConfig, BlockConfig


def masked_mean(tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """Return the mean of each window's valid tokens, zero for a window without valid tokens."""
    total = tokens.masked_fill(~valid[..., None], 0).sum(dim=1)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


class MeanBlock(nn.Module):
    """Block P that replaces every token by the mean of its window; it has no parameters."""

    def forward(
        self, tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], attention: list[Tensor] | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return the window's mean at each token. No attention weights are recorded."""
        del attention
        return masked_mean(tokens, valid)[:, None].expand_as(tokens)


class MeanReadout(nn.Module):
    """Readout that classifies the mean of the window's frames."""

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        head: Callable[[Tensor], Tensor],
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "b a"]:
        """Return the logits of each window. No attention weights are recorded."""
        del attention
        return head(masked_mean(tokens, valid))


def build(width: int, config: BlockConfig) -> nn.Module:
    """Return the mean, for block P; ``width`` and ``config`` are not used."""
    del width, config
    return MeanBlock()


def readout(width: int, config: ActionConfig) -> nn.Module:
    """Return the readout of the mean, for block A; ``width`` and ``config`` are not used."""
    del width, config
    return MeanReadout()
