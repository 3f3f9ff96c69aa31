"""Search spaces, one module each: the file name is the space's name, and the module defines ``SPACE``."""
