"""Training loop, checkpoints, augmentation and Ray Train workers. The package itself imports nothing."""
