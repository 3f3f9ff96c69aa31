"""The paper's block: a pre-norm transformer encoder; block A prepends a learned token to the frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from htt.config import ActionConfig, BlockConfig
from htt.model.positions import sinusoid


class Attention(nn.Module):
    """Multi-head self-attention; positions are added to the inputs of queries and keys, not of values.

    Source: HTT (Wen et al. 2023), section 3.1, as in the released code.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.project = nn.Linear(width, 3 * width)  # rows: queries, keys, values
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.project.bias)
        nn.init.zeros_(self.out.bias)

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        positions: Float[Tensor, "t d"],
        seen: Bool[Tensor, "b 1 q t"],
        attention: list[Tensor] | None = None,
        first: int | None = None,
    ) -> Float[Tensor, "b _ d"]:
        """Return the output at the ``first`` tokens, or at each.

        ``seen`` says which tokens each attends to: q = t, or 1 for all alike.
        """
        query, key, value = self._project(tokens, positions, first)
        seen = seen[:, :, :first]
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, dropout_p=self.dropout if self.training else 0.0
        )
        if attention is not None:
            attention.append(_weights(query, key, seen))
        out: Tensor = self.out(rearrange(attended, "b head t d -> b t (head d)"))
        return out

    def _project(self, tokens: Tensor, positions: Tensor, first: int | None) -> list[Tensor]:
        placed = tokens + positions
        rows, bias = self.project.weight.chunk(3), self.project.bias.chunk(3)
        inputs = placed[:, :first], placed, tokens
        projected = (F.linear(*each) for each in zip(inputs, rows, bias, strict=True))
        return [rearrange(each, "b t (head d) -> b head t d", head=self.heads) for each in projected]


def _weights(query: Tensor, key: Tensor, seen: Tensor) -> Float[Tensor, "b head t t"]:
    """Return the weights, which the fused attention does not give: one row per query, zero where a key is not seen."""
    scores: Tensor = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return scores.masked_fill(~seen, float("-inf")).softmax(dim=-1)


class Layer(nn.Module):
    """Pre-norm encoder layer: attention, then a feed-forward network, each with a LayerNorm before and a residual."""

    def __init__(self, width: int, config: BlockConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, config.heads, config.dropout)
        self.feedforward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, config.feedforward)
        self.contract = nn.Linear(config.feedforward, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        seen: Tensor,
        attention: list[Tensor] | None = None,
        first: int | None = None,
    ) -> Float[Tensor, "b _ d"]:
        """Return the ``first`` tokens after one layer, or all."""
        attended = self.attention(self.attention_norm(tokens), positions, seen, attention, first)
        tokens = tokens[:, :first] + self.dropout(attended)
        hidden = self.dropout(F.relu(self.expand(self.feedforward_norm(tokens))))
        change: Tensor = self.dropout(self.contract(hidden))
        return tokens + change


class Transformer(nn.Module):
    """Encoder of ``depth`` layers and a final LayerNorm; all matrices are initialised Xavier-uniform."""

    def __init__(self, width: int, config: BlockConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        attention: list[Tensor] | None = None,
        first: int | None = None,
        order: Bool[Tensor, "t t"] | None = None,
    ) -> Float[Tensor, "b _ d"]:
        """Return the encoded tokens of each window, or the ``first``: the last layer computes no others.

        A token attends to the valid ones, with ``order`` only to those of its row.
        """
        seen = valid[:, None, None]
        if order is not None:  # a token that is not valid sees all, as nothing sees it: a row must not be empty
            seen = seen & (order | ~valid[:, None, :, None])
        positions = sinusoid(tokens.shape[1], tokens.shape[2], like=tokens)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, positions, seen, attention)
        tokens = self.layers[-1](tokens, positions, seen, attention, None if attention is not None else first)
        normed: Tensor = self.norm(tokens)
        return normed


class TokenReadout(nn.Module):
    """Readout that classifies the output of a learned token at position 0, before the frames.

    If it is causal, a frame attends to itself and to earlier frames, and not to the token, which knows later ones. The
    token attends to all frames, as ever, so its output is the action of the frames so far. When a frame arrives, the
    outputs of the frames before it stay as they are, in all layers.

    Source: HTT (Wen et al. 2023), section 3.3; it is not causal there.
    """

    def __init__(self, width: int, config: ActionConfig) -> None:
        super().__init__()
        self.causal = config.causal
        self.token = nn.Parameter(torch.randn(width))
        self.encoder = Transformer(width, config)

    def forward(
        self,
        tokens: Float[Tensor, "b t d"],
        valid: Bool[Tensor, "b t"],
        head: Callable[[Tensor], Tensor],
        attention: list[Tensor] | None = None,
    ) -> Float[Tensor, "b a"]:
        """Return the logits of each window."""
        token = self.token.to(tokens.dtype).expand(len(tokens), 1, -1)
        tokens = torch.cat([token, tokens], dim=1)
        valid = F.pad(valid, (1, 0), value=True)
        order = causal_order(tokens.shape[1], tokens.device) if self.causal else None
        return head(self.encoder(tokens, valid, attention, 1, order)[:, 0])


def causal_order(count: int, device: torch.device) -> Bool[Tensor, "t t"]:
    """Return the tokens that each token of a causal readout may attend to, in rows.

    The first, the action token, attends to all; a frame to itself and to earlier frames.
    """
    key = torch.arange(count, device=device)
    query = key[:, None]
    return (query == 0) | ((key > 0) & (key <= query))


def build(width: int, config: BlockConfig) -> nn.Module:
    """Return the encoder, for block P."""
    return Transformer(width, config)


def readout(width: int, config: ActionConfig) -> nn.Module:
    """Return the encoder with its action token, for block A."""
    return TokenReadout(width, config)
