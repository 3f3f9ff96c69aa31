"""Shards in an object store: download, cache and prefetch."""
