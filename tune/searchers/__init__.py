"""Selection of the next trial, and early stopping."""
