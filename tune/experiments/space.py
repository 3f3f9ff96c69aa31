"""Search space: dotted path -> domain, over a base configuration. It is checked before any machine is requested.

::

    SPACE = Space(
        {
            "model.pose.window": Choice(4, 8, 16, why="paper: 16; shorter windows are cheaper"),
            "optim.lr": LogUniform(1e-5, 3e-4, why="paper: 3e-5; a decade either side"),
        },
        base={"optim.name": "adamw"},
        description="...",
    )

``space.start(assignments)`` returns the base configuration, ``space.check(base)`` checks that the values of all domains
give valid configurations, and ``space.draw(random)`` returns one sample: {path: value}, for ``htt.config.override``.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

from htt.config import BackboneConfig, Config, Value, flatten, override, plain_value, unknown
from htt.errors import ConfigError, shown
from htt.registry import check_plugins

LENGTH = "train.epochs"
"""Path of the number of epochs; if it is searched, the length differs between trials."""
DATA = ("data.root", "data.source", "data.synthetic.")
"""Prefixes of the paths that determine the data set."""
DATA_SETS = 16
"""Largest number of data sets that are prepared before a search starts."""
FAR = 1e300
"""Largest absolute value of the ends of a range, so that the length of a range is finite."""
JOINT_DRAWS = 64
"""Samples of the whole space that ``check`` validates if there are too many combinations to try all."""


@dataclass(frozen=True, init=False)
class Choice:
    """Domain of listed values; a value may be a list."""

    values: tuple[Value, ...]
    why: str = ""

    def __init__(self, *given: Value, why: str = "") -> None:
        values = tuple(map(plain_value, given))
        if not values:
            raise ConfigError("Choice must list at least one value; got none.")
        doubles = [value for number, value in enumerate(values) if _repeats(value, values[:number])]
        if doubles:
            raise ConfigError(f"Choice must list each value once; got {shown(_words(doubles), quoted=False)} again.")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "why", why)

    def probes(self) -> tuple[Value, ...]:
        """Return the values to validate; if they are valid, the whole domain is."""
        return self.values

    def draw(self, source: random.Random) -> Value:
        """Return a random value."""
        return self.values[source.randrange(len(self.values))]

    def holds(self, value: Value) -> bool:
        """Return whether the value is in the domain."""
        return plain_value(value) in self.values

    def __str__(self) -> str:
        return f"one of {_words(self.values)}"


@dataclass(frozen=True)
class Uniform:
    """Domain of numbers between two ends, uniformly distributed."""

    low: float
    high: float
    why: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_ends(self)

    def probes(self) -> tuple[Value, ...]:
        """Return the two ends."""
        return (float(self.low), float(self.high))

    def draw(self, source: random.Random) -> Value:
        """Return a random value."""
        return source.uniform(self.low, self.high)

    def holds(self, value: Value) -> bool:
        """Return whether the value is in the domain."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


class LogUniform(Uniform):
    """Domain of positive numbers between two ends, with uniformly distributed logarithms."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low <= 0:
            raise ConfigError(f"LogUniform must start above 0; got {self.low:g}. Use Uniform, or raise its low end.")

    def draw(self, source: random.Random) -> Value:
        """Return a random value."""
        return math.exp(source.uniform(math.log(self.low), math.log(self.high)))

    def __str__(self) -> str:
        return f"{super().__str__()}, logarithmic"


@dataclass(frozen=True)
class Integer:
    """Domain of whole numbers: low, low + step, ..., high."""

    low: int
    high: int
    step: int = 1
    why: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        _check_ends(self)
        object.__setattr__(self, "step", plain_value(self.step))
        if not all(isinstance(end, int) for end in (self.low, self.high, self.step)) or self.step < 1:
            raise ConfigError(
                f"Integer takes whole numbers and a step of 1 or more; got {self.low} to {self.high}, step {self.step}."
            )
        if (self.high - self.low) % self.step:
            raise ConfigError(f"Integer must reach its high end in whole steps; got {self}.")

    def probes(self) -> tuple[Value, ...]:
        """Return all values, or the two ends of a long range."""
        values = range(self.low, self.high + 1, self.step)
        few = (self.high - self.low) // self.step < JOINT_DRAWS  # len() fails for ranges longer than 2^63
        return tuple(values) if few else (self.low, self.high)

    def draw(self, source: random.Random) -> Value:
        """Return a random value."""
        return source.randrange(self.low, self.high + 1, self.step)

    def holds(self, value: Value) -> bool:
        """Return whether the value is in the domain."""
        return value in range(self.low, self.high + 1, self.step)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}" + (f", every {self.step}" if self.step > 1 else "")


Domain: TypeAlias = Choice | Uniform | LogUniform | Integer
KINDS = {kind.__name__: kind for kind in (Choice, Uniform, LogUniform, Integer)}


def to_plain(domain: Domain) -> dict[str, Any]:
    """Return a domain as plain data; the inverse of ``of_plain``."""
    return {"kind": type(domain).__name__} | {
        each.name: plain_value(getattr(domain, each.name)) for each in fields(domain)
    }


def of_plain(plain: Mapping[str, Any]) -> Domain:
    """Return the domain of plain data.

    Raises:
        ConfigError: the data are not a domain.
    """
    try:
        settings = dict(plain)
        kind: Any = KINDS[settings.pop("kind")]
        domain: Domain = kind(*settings.pop("values", ()), **settings)
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"Invalid domain {shown(str(plain), quoted=False)}: {error}.") from error
    return domain


@dataclass(frozen=True)
class Space:
    """Searched domains (dotted path -> domain) over a base (dotted path -> value)."""

    domains: Mapping[str, Domain]
    base: Mapping[str, Value] = field(default_factory=dict)
    description: str = ""

    def start(self, assignments: Mapping[str, Value] | None = None) -> Config:
        """Return the base configuration of a search: the defaults, the space's base, then ``--set``."""
        return override(Config(), {**self.base, **(assignments or {})})

    def without(self, paths: Iterable[str]) -> Space:
        """Return the space without the domains of these paths, such as those fixed by ``--set``."""
        fixed = set(paths)
        kept = {path: domain for path, domain in self.domains.items() if path not in fixed}
        return Space(kept, self.base, self.description)

    def draw(self, source: random.Random) -> dict[str, Value]:
        """Return one sample: {dotted path: value}."""
        return {path: domain.draw(source) for path, domain in self.domains.items()}

    def of(self, config: Config) -> dict[str, Value] | None:
        """Return the sample of a configuration, or None if one of its values is outside the space."""
        values = {path: value for path, value in flatten(config).items() if path in self.domains}
        return values if all(self.domains[path].holds(value) for path, value in values.items()) else None

    def backbones(self, base: Config) -> list[BackboneConfig]:
        """Return the image encoders of the samples: all if they are few, otherwise those of seeded draws."""
        searched = {path: domain for path, domain in self.domains.items() if path.startswith("model.backbone.")}
        return [override(base, sample).model.backbone for sample in _samples(searched)]

    def longest(self, base: Config) -> int:
        """Return the number of epochs of the longest possible trial."""
        domain = self.domains.get(LENGTH)
        return max(int(str(value)) for value in domain.probes()) if domain else base.train.epochs

    def of_data(self, base: Config) -> list[Config]:
        """Return the base with each valid combination of the searched paths that determine the data set.

        With more than ``DATA_SETS`` combinations, or a domain other than ``Choice``, return the base alone: each trial
        then prepares its own data.
        """
        named = {path: domain for path, domain in self.domains.items() if path.startswith(DATA)}
        several = math.prod(len(domain.probes()) for domain in named.values())
        if several > DATA_SETS or not all(isinstance(domain, Choice) for domain in named.values()):
            return [base]
        return [override(base, sample) for sample in _samples(named) if not faults_of(base, sample)] or [base]

    def check(self, base: Config) -> None:
        """Check that the values of all domains give valid configurations.

        Raises:
            ConfigError: one error with all unknown paths and all invalid values and combinations.
        """
        raise_faults("Invalid space", list(self._problems(base)))

    def _problems(self, base: Config) -> Iterator[str]:
        known = flatten(base)
        yield from faults_of(base, {})
        if not self.domains:
            yield "it must search at least one path; got none."
        yield from (unknown(path, known) for path in self.domains if path not in known)
        for path, domain in self.domains.items():
            if not isinstance(domain, Domain):
                yield f"{path} must have a domain, such as Choice(4, 8) or LogUniform(1e-5, 1e-3); got {shown(domain)}."
                return
        existing = {path: domain for path, domain in self.domains.items() if path in known}
        bad = {fault for path, domain in existing.items() for fault in _lone_faults(base, path, domain, existing)}
        yield from sorted(bad)
        if not bad:
            yield from sorted({fault for sample in _samples(existing) for fault in faults_of(base, sample)})[:8]


def _lone_faults(base: Config, path: str, domain: Domain, domains: Mapping[str, Domain]) -> list[str]:
    """Return the faults of single values; a value that is valid in some sample of the space has none."""
    found = []
    for value in domain.probes():
        faults = faults_of(base, {path: value})
        if faults and not any(not faults_of(base, {**sample, path: value}) for sample in _samples(domains, 16)):
            found += faults
    return found


def _samples(domains: Mapping[str, Domain], draws: int = JOINT_DRAWS) -> Iterator[dict[str, Value]]:
    """Yield all combinations if there are at most ``draws``, otherwise ``draws`` seeded samples."""
    probes = [domain.probes() for domain in domains.values()]
    if math.prod(len(values) for values in probes) <= draws:
        yield from (dict(zip(domains, values, strict=True)) for values in itertools.product(*probes))
    else:
        source = random.Random(0)
        yield from ({path: domain.draw(source) for path, domain in domains.items()} for _ in range(draws))


def faults_of(base: Config, values: Mapping[str, Value]) -> list[str]:
    """Return the faults of the configuration with these changes: {dotted path: value}."""
    try:
        check_plugins(override(base, values))
    except ConfigError as error:
        return error.faults
    return []


def raise_faults(subject: str, faults: list[str]) -> None:
    """Raise one ``ConfigError`` for all faults, if there are any."""
    if len(faults) == 1:
        raise ConfigError(f"{subject}: {faults[0]}")
    if faults:
        raise ConfigError(f"{subject}; {len(faults)} faults:\n" + "\n".join(f"  - {fault}" for fault in faults))


def _check_ends(domain: Any) -> None:
    """Convert the ends of a range to plain Python numbers; raise a ``ConfigError`` if they are not a range."""
    low, high = plain_value(domain.low), plain_value(domain.high)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not (numbers and -FAR <= low < high <= FAR):
        kind = type(domain).__name__
        raise ConfigError(f"{kind} must go from a low end to a higher one; got {shown(low)} and {shown(high)}.")
    object.__setattr__(domain, "low", low)
    object.__setattr__(domain, "high", high)


def _repeats(value: Value, before: tuple[Value, ...]) -> bool:
    return any(type(value) is type(other) and value == other for other in before)


def _words(values: Iterable[Value]) -> str:
    return ", ".join(str(value) for value in values)
