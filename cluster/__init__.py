"""Machines, storage and final training. This package is independent of searches."""
