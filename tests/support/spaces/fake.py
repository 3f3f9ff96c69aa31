"""The space of the stand-in training, as a plug-in."""

from fake_training import SPACE

__all__ = ["SPACE"]
