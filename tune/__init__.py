"""The questions: which configuration is best, and what does each part contribute."""
