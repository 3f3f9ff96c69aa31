"""Clips of a split, windows of frames, and batches of windows."""
