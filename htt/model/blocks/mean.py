"""The plainest pooling: every token becomes the mean of its window; departs from the paper: for ablations."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from htt.config import BlockConfig


def masked_mean(tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b d"]:
    """The mean of each window's valid tokens; zero for a window that has none."""
    total = tokens.masked_fill(~valid[..., None], 0).sum(dim=1)
    return total / valid.sum(dim=1, keepdim=True).clamp(min=1)


class Mean(nn.Module):
    """Tells every frame the mean of its window; nothing is learned."""

    def forward(
        self, tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], attention: list[Tensor] | None = None
    ) -> Float[Tensor, "b t d"]:
        """The window's mean, at each token. It has no attention to tell of."""
        del attention
        return masked_mean(tokens, valid)[:, None].expand_as(tokens)


class MeanReadout(nn.Module):
    """The mean of the window's frames is classified."""

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        head: Callable[[Tensor], Tensor],
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "b a"]:
        """Logits of each window. It has no attention to tell of."""
        del attention
        return head(masked_mean(tokens, valid))


def build(width: int, config: BlockConfig) -> nn.Module:
    """The mean, for block P; it has no size."""
    del width, config
    return Mean()


def readout(width: int, config: BlockConfig) -> nn.Module:
    """The mean, for block A; it has no size."""
    del width, config
    return MeanReadout()
