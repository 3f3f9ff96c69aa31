"""Reports, tables and figures of a run, made without Ray and torch."""
