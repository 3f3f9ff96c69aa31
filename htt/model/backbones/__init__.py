"""Image encoders: one frame -> one feature. Every module here is one, chosen by its name.

A module offers ``build(config) -> module`` (``config`` is a ``htt.config.BackboneConfig``); the module has ``width``,
the length of its feature, and ``forward(frames [n 3 h w], normalised) -> [n width]`` for images of any size from 32 px.
A name with a "/" or of a local folder is none of these modules but any vision model of the ``transformers`` library.
``htt.testing`` has the contract that each of them passes.
"""
