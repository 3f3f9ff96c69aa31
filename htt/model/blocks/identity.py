"""No exchange between frames: each is judged alone, and a clip by vote; departs from the paper: for ablations."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from htt.config import BlockConfig


class Identity(nn.Module):
    """Leaves every token as it is."""

    def forward(
        self, tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], attention: list[Tensor] | None = None
    ) -> Float[Tensor, "b t d"]:
        """The tokens. It has no attention to tell of."""
        del valid, attention
        return tokens


class VoteReadout(nn.Module):
    """Every frame is classified; the window's logits are the logarithm of its frames' mean probabilities."""

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        head: Callable[[Tensor], Tensor],
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "b a"]:
        """Logits of each window. It has no attention to tell of."""
        del attention
        votes = head(tokens).float().log_softmax(dim=-1)
        frames = valid.sum(dim=1, keepdim=True)
        return votes.masked_fill(~valid[..., None], float("-inf")).logsumexp(dim=1) - frames.log()


def build(width: int, config: BlockConfig) -> nn.Module:
    """Nothing, for block P; it has no size."""
    del width, config
    return Identity()


def readout(width: int, config: BlockConfig) -> nn.Module:
    """The vote, for block A; it has no size."""
    del width, config
    return VoteReadout()
