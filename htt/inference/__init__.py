"""Application of a trained model: export to one file, and comparison of its forms."""
