"""Version of what is rendered."""

VERSION = 4
"""Raised whenever the pixels or labels of a plan change; caches of rendered clips depend on it."""
