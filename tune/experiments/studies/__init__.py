"""Studies, one module each: the file name is the study's name, and the module defines ``STUDY``."""
