"""Objects that the hands handle, and their meshes."""
