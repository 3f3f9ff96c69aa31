"""One module a search space: its file name is its name, and ``SPACE`` is what it holds."""
