"""Parts of ``benchmarks/gpu.py``: functions that yield lines of Markdown, each run in a process of its own.

``network`` measures a network in the process, ``runs`` starts trainings and searches as a user does. A line is kept as
soon as it is yielded, so a part that fails or hangs loses only what it has not measured yet.
"""
