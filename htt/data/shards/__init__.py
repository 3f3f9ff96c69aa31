"""Shards: Arrow files of clips, their labels and their manifest."""
