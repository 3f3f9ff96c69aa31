"""Data sources, shards, windows of frames, and batches of windows.

::

    sources/*  ->  conversion  ->  shards  ->  windows, order     ->  loader  ->  augment
    a data set     once            Arrow       which frames, when     Batch       on the device

A source is converted once, in parallel, into shards: memory-mapped Arrow files with one clip per record batch.
Training reads only the shards.
"""
