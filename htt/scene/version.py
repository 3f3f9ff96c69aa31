"""Version of the renderer's output."""

VERSION = 6
"""Version to increase whenever pixels or labels of a plan change; caches of rendered clips depend on it."""
