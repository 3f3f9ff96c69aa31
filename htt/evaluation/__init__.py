"""Evaluation of predictions: metrics, intervals, published numbers, figures and the report.

::

    Tally  ->  scores (+ intervals, published)  ->  figures, report
"""
