"""Files and results of a run, readable without Ray and torch."""
