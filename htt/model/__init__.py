"""The network, as modules independent of data sets and devices; ``htt.model.htt`` follows the paper's figure."""
