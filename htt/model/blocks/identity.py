"""No exchange between frames, and the action by a vote of the frames; departs from the paper, for ablations."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from htt.config import ActionConfig, BlockConfig


class Identity(nn.Module):
    """Block P that returns its input."""

    def forward(
        self, tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], attention: list[Tensor] | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return the tokens unchanged. No attention weights are recorded."""
        del valid, attention
        return tokens


class VoteReadout(nn.Module):
    """Readout that classifies each frame; a window's logits are the logarithm of its frames' mean probabilities."""

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        head: Callable[[Tensor], Tensor],
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "b a"]:
        """Return the logits of each window. No attention weights are recorded."""
        del attention
        votes = head(tokens).float().log_softmax(dim=-1)
        frames = valid.sum(dim=1, keepdim=True)
        return votes.masked_fill(~valid[..., None], float("-inf")).logsumexp(dim=1) - frames.log()


def build(width: int, config: BlockConfig) -> nn.Module:
    """Return the identity, for block P; ``width`` and ``config`` are not used."""
    del width, config
    return Identity()


def readout(width: int, config: ActionConfig) -> nn.Module:
    """Return the vote, for block A; ``width`` and ``config`` are not used."""
    del width, config
    return VoteReadout()
