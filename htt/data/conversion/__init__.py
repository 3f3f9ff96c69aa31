"""Conversion of a source into shards, in parallel and resumable."""
