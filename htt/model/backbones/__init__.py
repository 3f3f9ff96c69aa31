"""Image encoders: one frame -> one feature. Each module of this package is one encoder, selected by its file name.

A module offers ``build(config) -> nn.Module`` (``config`` is a ``htt.config.BackboneConfig``). The result has
``width``, the length of its feature, and ``forward(frames [n 3 h w], normalised) -> [n width]`` for images of any size
from 32 px. A name with a "/" or the path of a local folder selects a vision model of the ``transformers`` library
instead. ``htt.testing`` has the contract test that every encoder passes.
"""
