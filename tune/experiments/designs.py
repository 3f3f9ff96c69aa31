"""Variants made by rule: of factors and their levels, or of parts that can be left out. All give {name: {path: value}}.

A *factor* is {level: {dotted path: value}}. A *part* is named by what leaving it out changes.
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
    """Every combination of every factor's levels; a variant is named by its levels, "1 frame, feature alone".

    Raises:
        ConfigError: fewer than two levels, or two factors that change the same path.
    """
    _check_factors(factors)
    return {
        ", ".join(levels): _joined(factor[level] for factor, level in zip(factors.values(), levels, strict=True))
        for levels in itertools.product(*factors.values())
    }


def fractional(generators: Mapping[str, Sequence[str]], **factors: Mapping[str, Changes]) -> Variants:
    """A regular fraction of the combinations of factors of two levels each: 2^(k - p) instead of 2^k.

    With a factor's first level as -1 and its second as +1, a factor named in ``generators`` is the product of those it
    lists: ``fractional({"c": ("a", "b")}, a=..., b=..., c=...)`` is four variants, the half of eight. Its effect cannot
    be told from their interaction; use it where that is believed to be small.

    Source: Box, Hunter and Hunter 2005, chapter 6.

    Raises:
        ConfigError: a factor without exactly two levels, factors that change the same path, or a generator that names
            what is no free factor.
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
    """``ALL`` parts, and "without X" for each part.

    Args:
        parts: {part: what leaving it out changes}.
    """
    return {ALL: {}, **{f"without {part}": dict(changes) for part, changes in parts.items()}}


def add_one_in(parts: Mapping[str, Changes]) -> Variants:
    """``NONE`` of the parts, and "X alone" for each part.

    Args:
        parts: {part: what leaving it out changes}.

    Raises:
        ConfigError: parts that change the same path, which then cannot all be left out; see ``subsets``.
    """
    _check_paths(parts)
    alone = {f"{part} alone": _joined(changes for other, changes in parts.items() if other != part) for part in parts}
    return {NONE: _joined(parts.values()), **alone}


def subsets(path: str, parts: Sequence[str]) -> Variants:
    """Each choice of some of the parts as the list at a path: "feature", ..., "feature + hands + object"."""
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
