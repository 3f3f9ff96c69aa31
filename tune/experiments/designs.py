"""Designs: functions that create the variants of a study from factors and levels, or from removable parts.

All return {variant: {dotted path: value}}. A *factor* is {level: {dotted path: value}}. A *part* is a component of the
model, given by the changes that remove it: {dotted path: value}.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from htt.config import Value
from htt.errors import ConfigError

Changes = Mapping[str, Value]
"""{dotted path: value}."""
Variants = dict[str, dict[str, Value]]

ALL, NONE = "all parts", "no part"


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


def fractional(generators: Mapping[str, Sequence[str]], **factors: Mapping[str, Changes]) -> Variants:
    """Return a regular fraction of the combinations of k two-level factors: 2^(k - p) variants instead of 2^k.

    A factor's first level is coded as -1 and its second as +1. The level of each of the p factors in ``generators`` is
    the product of the levels of the free factors listed for it: ``fractional({"c": ("a", "b")}, a=..., b=..., c=...)``
    returns four variants, half of eight. The effect of "c" is then confounded with the interaction of "a" and "b"; use
    this design only if that interaction is expected to be small.

    Source: Box, Hunter and Hunter 2005, chapter 6.

    Raises:
        ConfigError: a factor does not have exactly two levels, two factors change the same path, or a generator lists
            a name that is not a free factor.
    """
    _check_factors(factors, levels=2)
    free = [name for name in factors if name not in generators]
    for name, words in generators.items():
        if name not in factors or not words or not set(words) <= set(free):
            raise ConfigError(
                f"A generator must give a factor as the product of free ones; got {name} = {' x '.join(words)}. "
                f"Free are: {', '.join(free)}."
            )
    made = {}
    for free_signs in itertools.product((-1, 1), repeat=len(free)):
        signs = dict(zip(free, free_signs, strict=True))
        for name, words in generators.items():
            signs[name] = math.prod(signs[word] for word in words)
        levels = {name: list(factor)[signs[name] > 0] for name, factor in factors.items()}
        made[", ".join(levels.values())] = _joined(factors[name][level] for name, level in levels.items())
    return made


def leave_one_out(parts: Mapping[str, Changes]) -> Variants:
    """Return the variant ``ALL`` with all parts, and "without X" for each part X.

    Args:
        parts: {part: changes that remove it}.
    """
    return {ALL: {}, **{f"without {part}": dict(changes) for part, changes in parts.items()}}


def add_one_in(parts: Mapping[str, Changes]) -> Variants:
    """Return the variant ``NONE`` without any part, and "X alone" for each part X.

    Args:
        parts: {part: changes that remove it}.

    Raises:
        ConfigError: two parts change the same path, so they cannot both be removed; see ``subsets``.
    """
    _check_paths(parts)
    alone = {f"{part} alone": _joined(changes for other, changes in parts.items() if other != part) for part in parts}
    return {NONE: _joined(parts.values()), **alone}


def subsets(path: str, parts: Sequence[str]) -> Variants:
    """Return a variant for each non-empty subset of ``parts``, set as the list at ``path``; named "feature + hands"."""
    chosen = itertools.chain.from_iterable(itertools.combinations(parts, size) for size in range(1, len(parts) + 1))
    return {" + ".join(some): {path: list(some)} for some in chosen}


def _check_factors(factors: Mapping[str, Mapping[str, Changes]], levels: int | None = None) -> None:
    for name, factor in factors.items():
        if len(factor) < 2 or (levels and len(factor) != levels):
            wanted = f"exactly {levels}" if levels else "two or more"
            raise ConfigError(f"A factor must have {wanted} levels; {name} has {len(factor)}.")
    _check_paths({name: _joined(factor.values()) for name, factor in factors.items()})


def _check_paths(groups: Mapping[str, Changes]) -> None:
    for (first, one), (second, other) in itertools.combinations(groups.items(), 2):
        both = sorted(set(one) & set(other))
        if both:
            raise ConfigError(f"Factors and parts must change paths of their own; {first} and {second} change {both}.")


def _joined(changes: Iterable[Changes]) -> dict[str, Value]:
    return {path: value for one in changes for path, value in one.items()}
