"""What is made of an evaluation: intervals, the published numbers beside them, figures, a report, files for a server.

::

    Tally  ->  scores (+ intervals, published)  ->  figures, report
"""
