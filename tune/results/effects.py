"""Comparisons within a study besides variant and reference: effects of factors, and contrasts of metrics.

The *main effect* of a factor's level is the mean over all variants with this level minus the mean over those with the
reference's level. The *interaction* of two factors is the change of one factor's effect with the other factor: the four
means (both levels, either, none) with the signs +, -, -, +. Source: Box, Hunter and Hunter 2005.

A *contrast* compares two metrics of the same trials, such as two ways to count votes.

Both are computed per seed and clip, and tested like the differences of variants (``tune/results/stats.py``), with
Holm's correction over all effects of a metric, or over the variants of a contrast.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from htt.evaluation.metric_table import METRICS
from tune.experiments.study import Study
from tune.results import stats, study_results
from tune.results.stats import Comparison
from tune.results.study_results import StudyResults

Term = tuple[str, ...]
"""Term of the linear model of the variants: the names of one or two factors."""


@dataclass(frozen=True)
class Effect:
    """Linear combination of the variants' values."""

    title: str
    """Title such as ``window: 1 frame instead of 16 frames``, or two of these joined by a times sign."""
    factors: Term
    weights: Mapping[str, float]
    """{variant: weight of its value}."""


def effects(study: Study) -> list[Effect]:
    """Return all main effects and two-factor interactions of a factorial study.

    The result is empty unless the variants are all combinations of the levels; otherwise effects are confounded.
    """
    levels = study.levels()
    if len({tuple(has.items()) for has in levels.values()}) < math.prod(map(len, study.factors.values())):
        return []
    terms: list[Term] = [*((factor,) for factor in study.factors), *itertools.combinations(study.factors, 2)]
    return [Effect(title, term, weights) for term in terms for title, weights in _weights(study, levels, term)]


def compared(results: StudyResults, metric: str) -> list[tuple[Effect, Comparison]]:
    """Return each effect on a metric with its comparison to zero, over seeds that all variants of the effect have."""
    found = effects(results.study)
    tables, groups = study_results.tables(results, metric)
    sums = {effect.title: sum_of(effect.weights, tables) for effect in found}
    comparisons = _to_zero(sums, metric, groups)
    return [(effect, comparisons[effect.title]) for effect in found]


def sum_of(weights: Mapping[str, float], tables: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the weighted sum of tables [s] or [s c]; NaN where a table with a weight other than 0 is NaN."""
    return np.asarray(sum(weight * tables[name] for name, weight in weights.items() if weight))


def contrast(results: StudyResults, first: str, second: str) -> dict[str, Comparison]:
    """Return {variant: ``second`` metric minus ``first``}; the direction of "better" is that of ``second``."""
    before, groups_before = study_results.tables(results, first)
    after, groups = study_results.tables(results, second)
    if len(groups_before) != len(groups):  # one metric has no values per clip: compare per seed
        before, after = ({name: _of_seeds(table) for name, table in each.items()} for each in (before, after))
        groups = []
    return _to_zero({name: after[name] - before[name] for name in results.order}, second, groups)


def _to_zero(tables: Mapping[str, np.ndarray], metric: str, groups: Sequence[str]) -> dict[str, Comparison]:
    zero = np.zeros_like(next(iter(tables.values()), np.empty(0)))
    return stats.compare(zero, tables, METRICS[metric].higher_is_better, groups=groups)


def _of_seeds(table: np.ndarray) -> np.ndarray:
    """Return the means [s] of a table [s c] or [s]."""
    return table.mean(axis=1) if table.ndim == 2 else table


def _weights(
    study: Study, levels: Mapping[str, Mapping[str, str]], term: Term
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (title, weights) for each combination of levels that differ from the reference's levels.

    The weight of a variant is the product of its signs, + for a chosen level and - for one of the reference, divided by
    the size of its cell: the number of variants with the same levels of the term.
    """
    usual = levels[study.reference]
    cells = {variant: tuple(has[name] for name in term) for variant, has in levels.items()}
    size = Counter(cells.values())
    for chosen in itertools.product(*([one for one in study.factors[name] if one != usual[name]] for name in term)):
        changed = [(name, level, usual[name]) for name, level in zip(term, chosen, strict=True)]
        weights = {
            variant: math.prod((has[name] == level) - (has[name] == before) for name, level, before in changed)
            / size[cells[variant]]
            for variant, has in levels.items()
        }
        yield " × ".join(f"{name}: {level} instead of {before}" for name, level, before in changed), weights
