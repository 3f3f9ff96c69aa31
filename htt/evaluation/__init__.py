"""Evaluation of predictions: metrics, intervals, published numbers, figures and the report.

::

    ClipSums  ->  scores (+ intervals, published)  ->  figures, report
"""
