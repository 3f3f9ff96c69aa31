"""Named configurations: each module defines ``PRESET``, its changes to ``Config()``, and is named by its file name."""
