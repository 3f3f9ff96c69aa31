"""Motions of hands and objects: programs, grasps and timing."""
