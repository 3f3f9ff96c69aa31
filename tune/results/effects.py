"""What each factor of a study does, averaged over the others, and where two factors do more together than apart.

The *main effect* of a factor's level is the mean over all variants that have it, less the mean over those with the
reference's level. The *interaction* of two factors is how much the effect of one changes with the other: the four means
(both levels, either, none) with the signs +, -, -, +. Both are made seed by seed and clip by clip, and judged as the
differences of variants are (``tune/results/stats.py``), with Holm's correction over all effects of a metric.

A fraction of the combinations cannot tell everything apart: an interaction that could be another effect as well is not
given, and a main effect that could be an interaction as well says which. Source: Box, Hunter and Hunter 2005.
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
"""Of a model of the variants: one factor, or two."""


@dataclass(frozen=True)
class Effect:
    """A linear combination of the variants' values."""

    title: str
    """``window: 1 frame instead of 16 frames``, or two of these with a times sign."""
    factors: Part
    weights: Mapping[str, float]
    """{variant: what its value is multiplied with}."""
    aliases: Sequence[Part]
    """What this fraction cannot tell it from, if that is not zero."""


def effects(study: Study) -> list[Effect]:
    """All main effects, and the interactions of two factors that the variants can tell from the rest."""
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
    """Each effect by one metric, with its interval; a seed counts where all variants of an effect have it."""
    found = effects(done.study)
    if not found:
        return []
    tables, _ = study_results.tables(done, metric)
    each = {effect.title: sum_of(effect.weights, tables) for effect in found}
    nothing = np.zeros_like(next(iter(tables.values())))
    answers = stats.compare(nothing, each, METRICS[metric].higher_is_better)
    return [(effect, answers[effect.title]) for effect in found]


def sum_of(weights: Mapping[str, float], tables: Mapping[str, np.ndarray]) -> np.ndarray:
    """The weighted sum of tables [s] or [s c]; NaN where one of them has no value."""
    first = np.zeros_like(next(iter(tables.values())))
    return np.asarray(sum((weight * tables[name] for name, weight in weights.items() if weight), first))


def _contrasts(
    study: Study, levels: Mapping[str, Mapping[str, str]], part: Part
) -> Iterator[tuple[str, dict[str, float]]]:
    """(title, weights) for each choice of levels that the reference does not have."""
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
    """[v p] of the variants' levels as a model has them: each level against the last, adding up to zero."""
    made = np.ones((len(levels), 1))
    for factor in part:
        names = list(dict.fromkeys(has[factor] for has in levels.values()))
        coded = np.array([[(has[factor] == name) - float(has[factor] == names[-1]) for name in names[:-1]]
                          for has in levels.values()])  # fmt: skip
        made = (made[:, :, None] * coded[:, None, :]).reshape(len(levels), -1)
    return made


def _overlap(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether some of the one's columns are a combination of the other's."""
    rank = np.linalg.matrix_rank
    return bool(rank(np.hstack([one, other])) < rank(other) + one.shape[1])
