"""Contrasts: comparison of two metrics of the same trials, such as two ways to count votes.

Differences are computed per seed and clip, and tested like those of variants (``stats.py``), with Holm's correction
over the variants.
"""

from __future__ import annotations

import numpy as np

from htt.evaluation.metric_table import METRICS
from tune.results import stats, study_results
from tune.results.stats import Comparison
from tune.results.study_results import Done


def contrast(done: Done, first: str, second: str) -> dict[str, Comparison]:
    """Return {variant: ``second`` metric minus ``first``}; the direction of "better" is that of ``second``."""
    before, clips_before = study_results.tables(done, first)
    after, clips_after = study_results.tables(done, second)
    if clips_before != clips_after:  # one metric has no values per clip: compare per seed
        before, after = ({name: _of_seeds(table) for name, table in each.items()} for each in (before, after))
    differences = {name: after[name] - before[name] for name in done.order}
    zero = np.zeros_like(differences[done.study.reference])
    return stats.compare(zero, differences, METRICS[second].higher_is_better)


def _of_seeds(table: np.ndarray) -> np.ndarray:
    """Return the means [s] of a table [s c] or [s]."""
    return table.mean(axis=1) if table.ndim == 2 else table
