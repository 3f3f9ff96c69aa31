"""Motions: programs, grasps and timing."""
