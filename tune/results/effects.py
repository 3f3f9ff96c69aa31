"""Main effects and two-factor interactions of a study of factors.

The *main effect* of a factor's level is the mean over all variants with this level minus the mean over those with the
reference's level. The *interaction* of two factors is the change of one factor's effect with the other factor: the four
means (both levels, either, none) with the signs +, -, -, +. Both are computed per seed and clip, and tested like the
differences of variants (``tune/results/stats.py``), with Holm's correction over all effects of a metric.

In a fractional design some effects are aliased. An interaction aliased with another effect is omitted; a main effect
lists the interactions it is aliased with. Source: Box, Hunter and Hunter 2005.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from htt.evaluation.metric_table import METRICS
from tune.experiments.study import Study
from tune.results import stats, study_results
from tune.results.stats import Comparison
from tune.results.study_results import Done

Part = tuple[str, ...]
"""Term of the linear model of the variants: the names of one or two factors."""


@dataclass(frozen=True)
class Effect:
    """Linear combination of the variants' values."""

    title: str
    """Title such as ``window: 1 frame instead of 16 frames``, or two of these joined by a times sign."""
    factors: Part
    weights: Mapping[str, float]
    """{variant: weight of its value}."""
    aliases: Sequence[Part]
    """Interactions that are confounded with this effect."""


def effects(study: Study) -> list[Effect]:
    """Return all main effects, and the two-factor interactions that are not aliased with another effect."""
    levels = study.levels()
    if not levels:
        return []
    singles: list[Part] = [(factor,) for factor in study.factors]
    pairs: list[Part] = list(itertools.combinations(study.factors, 2))
    columns = {part: _columns(levels, part) for part in (*singles, *pairs)}
    found = []
    for part in singles:
        aliases = [pair for pair in pairs if part[0] not in pair and _overlap(columns[part], columns[pair])]
        found += [Effect(title, part, weights, aliases) for title, weights in _contrasts(study, levels, part)]
    for part in pairs:
        others = [columns[other] for other in columns if other != part]
        if not _overlap(columns[part], np.hstack([np.ones((len(levels), 1)), *others])):
            found += [Effect(title, part, weights, ()) for title, weights in _contrasts(study, levels, part)]
    return found


def compared(done: Done, metric: str) -> list[tuple[Effect, Comparison]]:
    """Return each effect on a metric with its comparison to zero, over seeds that all variants of the effect have."""
    found = effects(done.study)
    if not found:
        return []
    tables, _ = study_results.tables(done, metric)
    each = {effect.title: sum_of(effect.weights, tables) for effect in found}
    nothing = np.zeros_like(next(iter(tables.values())))
    answers = stats.compare(nothing, each, METRICS[metric].higher_is_better)
    return [(effect, answers[effect.title]) for effect in found]


def sum_of(weights: Mapping[str, float], tables: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the weighted sum of tables [s] or [s c]; NaN where a table with a weight other than 0 is NaN."""
    first = np.zeros_like(next(iter(tables.values())))
    return np.asarray(sum((weight * tables[name] for name, weight in weights.items() if weight), first))


def _contrasts(
    study: Study, levels: Mapping[str, Mapping[str, str]], part: Part
) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield (title, weights) for each combination of levels that differ from the reference's levels."""
    usual = levels[study.reference]
    for chosen in itertools.product(
        *([level for level in study.factors[name] if level != usual[name]] for name in part)
    ):
        weights = dict.fromkeys(levels, 0.0)
        for picks in itertools.product((True, False), repeat=len(part)):
            wanted = {
                name: level if pick else usual[name] for name, level, pick in zip(part, chosen, picks, strict=True)
            }
            cell = [variant for variant, has in levels.items() if wanted.items() <= has.items()]
            for variant in cell:
                weights[variant] += (-1.0) ** picks.count(False) / len(cell)
        titles = [f"{name}: {level} instead of {usual[name]}" for name, level in zip(part, chosen, strict=True)]
        yield " × ".join(titles), weights


def _columns(levels: Mapping[str, Mapping[str, str]], part: Part) -> np.ndarray:
    """Return the design matrix [v p] of a term: sum-to-zero coding of v variants, each level against the last."""
    made = np.ones((len(levels), 1))
    for factor in part:
        names = list(dict.fromkeys(has[factor] for has in levels.values()))
        coded = np.array([[(has[factor] == name) - float(has[factor] == names[-1]) for name in names[:-1]]
                          for has in levels.values()])  # fmt: skip
        made = (made[:, :, None] * coded[:, None, :]).reshape(len(levels), -1)
    return made


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether some linear combination of the columns of ``one`` lies in the column space of ``other``."""
    rank = np.linalg.matrix_rank
    return bool(rank(np.hstack([one, other])) < rank(other) + one.shape[1])
