"""The objects that hands handle."""
