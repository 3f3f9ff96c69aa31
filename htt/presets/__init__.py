"""Named configurations: each module holds ``PRESET``, what it changes in ``Config()``; its file name is its name."""
