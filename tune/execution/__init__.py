"""Execution of searches, studies and retrainings on Ray."""
