"""Reports, tables and figures of a run; needs neither Ray nor torch."""
