"""Rendering: rasteriser, light and shadow."""
