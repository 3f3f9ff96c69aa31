"""Conversion of a space's domains to Optuna distributions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from htt.config import Value
from tune.experiments.space import Choice, Domain, Integer, LogUniform


class Code:
    """A domain as an Optuna distribution, with the conversion of its values."""

    def __init__(self, domain: Domain) -> None:
        self.plain = {self.encode(value): value for value in domain.values} if isinstance(domain, Choice) else None
        self.distribution = self._distribution(domain)

    @property
    def values(self) -> Sequence[Any] | None:
        """All values, encoded, or None if the domain is continuous."""
        if isinstance(self.distribution, CategoricalDistribution):
            return list(self.distribution.choices)
        if isinstance(self.distribution, IntDistribution):
            return range(self.distribution.low, self.distribution.high + 1, self.distribution.step)
        return None

    def encode(self, value: Value) -> Any:
        """Return the value as Optuna can store it: a list becomes JSON text, any other value is unchanged."""
        return json.dumps(list(value)) if isinstance(value, list | tuple) else value

    def decode(self, value: Any) -> Value:
        """Return the value of the domain for an encoded value."""
        if self.plain is None:
            return value
        kept = self.plain[value]
        return list(kept) if isinstance(kept, tuple) else kept

    def _distribution(self, domain: Domain) -> BaseDistribution:
        if isinstance(domain, Choice):
            return CategoricalDistribution([self.encode(value) for value in domain.values])
        if isinstance(domain, Integer):
            return IntDistribution(domain.low, domain.high, step=domain.step)
        return FloatDistribution(domain.low, domain.high, log=isinstance(domain, LogUniform))
