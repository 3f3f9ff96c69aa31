"""The head camera: path and exposure."""
