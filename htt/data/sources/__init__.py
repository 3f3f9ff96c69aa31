"""The data sets there are; each module has ``source(root, config) -> htt.data.source.Source``."""
