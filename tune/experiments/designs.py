"""Designs: functions that create the variants of a study from factors and levels, or from removable parts.

All return {variant: {dotted path: value}}. A *factor* is {level: {dotted path: value}}. A *part* is a component of the
model, given by the changes that remove it: {dotted path: value}.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

from htt.config import Value
from htt.errors import ConfigError

Changes = Mapping[str, Value]
"""{dotted path: value}."""
Variants = dict[str, dict[str, Value]]

ALL = "all parts"


def factorial(**factors: Mapping[str, Changes]) -> Variants:
    """Return all combinations of the factors' levels; variants are named by levels, as in "1 frame, feature alone".

    Raises:
        ConfigError: a factor has fewer than two levels, or two factors change the same path.
    """
    _check_factors(factors)
    return {
        ", ".join(levels): _joined(factor[level] for factor, level in zip(factors.values(), levels, strict=True))
        for levels in itertools.product(*factors.values())
    }


def leave_one_out(parts: Mapping[str, Changes]) -> Variants:
    """Return the variant ``ALL`` with all parts, and "without X" for each part X.

    Args:
        parts: {part: changes that remove it}.
    """
    return {ALL: {}, **{f"without {part}": dict(changes) for part, changes in parts.items()}}


def subsets(path: str, parts: Sequence[str]) -> Variants:
    """Return a variant for each non-empty subset of ``parts``, set as the list at ``path``; named "feature + hands"."""
    chosen = itertools.chain.from_iterable(itertools.combinations(parts, size) for size in range(1, len(parts) + 1))
    return {" + ".join(some): {path: list(some)} for some in chosen}


def _check_factors(factors: Mapping[str, Mapping[str, Changes]]) -> None:
    for name, factor in factors.items():
        if len(factor) < 2:
            raise ConfigError(f"A factor must have two or more levels; {name} has {len(factor)}.")
    paths = {name: set(_joined(factor.values())) for name, factor in factors.items()}
    for first, second in itertools.combinations(factors, 2):
        if both := sorted(paths[first] & paths[second]):
            raise ConfigError(f"Factors must change different paths; {first} and {second} both change {both}.")


def _joined(changes: Iterable[Changes]) -> dict[str, Value]:
    return {path: value for one in changes for path, value in one.items()}
