"""Losses, metrics, checkpoints and the loop. Importing this imports nothing more: ``metric_table`` needs no torch."""
