"""Checks of all machines before a run starts."""
