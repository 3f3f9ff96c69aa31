"""Definitions of searches and studies: plain data, without Ray and torch."""
