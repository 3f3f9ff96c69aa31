"""Use of a trained model. The package itself imports nothing."""
