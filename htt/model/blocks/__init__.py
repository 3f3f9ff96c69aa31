"""Temporal blocks: exchange between the frames of a window. Each module is one kind, selected by its file name.

A module offers two functions; ``config`` is a ``htt.config.BlockConfig``, for block A its ``ActionConfig``:

``build(width, config) -> nn.Module``
    For block P. ``module(tokens [b t d], valid [b t], attention=None) -> [b t d]``, one output per token.
``readout(width, config) -> nn.Module``
    For block A. ``module(tokens [b t d], valid [b t], head, attention=None) -> logits [b a]``: one prediction per
    window, where ``head`` maps [... d] to [... a].
    If ``config.causal``, nothing that it computes from a frame depends on later frames, except its prediction.

Both ignore tokens that are not ``valid``, so padding never changes a result; every window has at least one valid token.
A block with attention appends the weights of each layer to the list ``attention``, if one is given. ``htt.testing`` has
the contract test that every block passes.
"""
