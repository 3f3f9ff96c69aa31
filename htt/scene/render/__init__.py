"""Rendering: rasteriser, room, shading and shadows."""
