"""The network, as data-free and device-free modules; ``htt.model.htt`` is the paper's figure."""
