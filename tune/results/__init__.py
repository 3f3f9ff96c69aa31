"""Files and numbers of a run, readable without Ray and torch."""
