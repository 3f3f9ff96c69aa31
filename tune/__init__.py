"""Hyperparameter search, ablation studies and retraining of the best configuration."""
