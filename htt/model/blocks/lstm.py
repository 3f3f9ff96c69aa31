"""A bidirectional LSTM with half the width per direction; departs from the paper, for ablations.

Block A reads forwards only, with the whole width, if it is causal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from htt.batch import gather, scatter
from htt.config import ActionConfig, BlockConfig
from htt.errors import ConfigError


class Lstm(nn.Module):
    """LSTM over the valid tokens of a window, in both directions or forwards: ``depth`` layers with dropout between."""

    def __init__(self, width: int, config: BlockConfig, *, forwards: bool = False) -> None:
        super().__init__()
        if width % 2 and not forwards:
            raise ConfigError(f"model.width must be even for an lstm block; got {width}. Choose {width + 1}.")
        dropout = config.dropout if config.depth > 1 else 0.0  # torch warns about dropout with one layer
        self.directions = 1 if forwards else 2
        how = {"batch_first": True, "bidirectional": not forwards, "dropout": dropout}
        self.lstm = nn.LSTM(width, width // self.directions, config.depth, **how)

    def forward(
        self, tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"], attention: list[Tensor] | None = None
    ) -> Float[Tensor, "b t d"]:
        """Return the states of each direction at each token, zero where not valid. Records no attention weights."""
        del attention
        states, _, first = self.read(tokens, valid)
        return scatter(gather(states, first), valid)

    def read(
        self, tokens: Float[Tensor, "b t d"], valid: Bool[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d"], Bool[Tensor, "b t"]]:
        """Run the LSTM over the valid tokens, moved to the front of their window.

        Returns:
            States of the moved tokens [b t d], the last states of all directions [b d], and a mask of the slots that
            hold moved tokens [b t].
        """
        counts = valid.sum(dim=1)
        first = torch.arange(valid.shape[1], device=valid.device) < counts[:, None]
        front = scatter(gather(tokens, valid), first)
        packed = pack_padded_sequence(front, counts.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        states, _ = pad_packed_sequence(states, batch_first=True, total_length=valid.shape[1])
        return states, rearrange(last[-self.directions :], "direction b d -> b (direction d)"), first


class LastReadout(nn.Module):
    """Readout that classifies the last states: of both directions, or, if it is causal, of the forward one alone."""

    def __init__(self, width: int, config: ActionConfig) -> None:
        super().__init__()
        self.reader = Lstm(width, config, forwards=config.causal)

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        head: Callable[[Tensor], Tensor],
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "b a"]:
        """Return the logits of each window. No attention weights are recorded."""
        del attention
        _, last, _ = self.reader.read(tokens, valid)
        return head(last)


def build(width: int, config: BlockConfig) -> nn.Module:
    """Return the LSTM, for block P.

    Raises:
        ConfigError: If the width is odd.
    """
    return Lstm(width, config)


def readout(width: int, config: ActionConfig) -> nn.Module:
    """Return the LSTM with the readout of its last states, for block A.

    Raises:
        ConfigError: If the width is odd, and it reads in both directions.
    """
    return LastReadout(width, config)
