"""Head camera: path and exposure."""
