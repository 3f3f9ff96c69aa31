"""Data: sources of clips, shards of clips, windows of frames, and batches of windows.

::

    sources/*  ->  convert  ->  shards  ->  windows, stream  ->  loader  ->  augment
    a data set     once         Arrow       which frames, when   Batch       on the device

A source is read once, in parallel, and becomes shards: memory-mapped Arrow files with one clip a record. Training reads
shards alone.
"""
