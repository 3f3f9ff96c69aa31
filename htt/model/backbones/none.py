"""No image encoder: the model sees the joints that come with the data, and trains block A alone.

The loader then gives no images, so that data can be used of which only the poses exist. ``htt.config`` says which other
fields such a model needs; the preset ``poses`` has them.
"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from htt.config import BackboneConfig


class NoEncoder(nn.Module):
    """Encoder whose feature has no values."""

    width = 0

    def forward(self, frames: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n 0"]:
        """Return [n 0]: the frames are not read."""
        return frames.new_zeros(len(frames), 0).float()


def build(config: BackboneConfig) -> nn.Module:
    """Return the absent encoder; ``config`` is not used."""
    del config
    return NoEncoder()
