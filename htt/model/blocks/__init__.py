"""Temporal blocks: how the frames of a window inform each other. Every module here is one kind, chosen by its name.

A module offers two functions; ``config`` is a ``htt.config.BlockConfig``:

``build(width, config) -> module``
    For block P. ``module(tokens [b t d], valid [b t], attention=None) -> [b t d]``, one output a token.
``readout(width, config) -> module``
    For block A. ``module(tokens [b t d], valid [b t], head, attention=None) -> logits [b a]``: how this kind of block
    turns frames into one answer, where ``head`` maps [... d] to [... a].

Both ignore what tokens hold where not ``valid``, so padding never changes a result; every window has a valid token. A
block that attends appends the weights of each layer to the list ``attention``, if there is one. ``htt.testing`` has the
contract that each of them passes.
"""
