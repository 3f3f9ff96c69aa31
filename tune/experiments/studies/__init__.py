"""One module a study: its file name is its name, and ``STUDY`` is what it holds."""
