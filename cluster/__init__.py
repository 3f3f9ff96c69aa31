"""The machines: connecting to them and knowing what they have. Nothing here knows of searches."""
