"""Axes of searched paths: positions and ticks of the values, from the domain and the values tried."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from htt.config import Value
from tune.experiments.space import Choice, Domain, LogUniform
from tune.reports.format import setting
from tune.results.run_folder import RunRecord, Trial

FEW = 6
"""Largest number of integers for which each gets a tick."""
NEAR = 0.12
"""Share of the axis; inner ticks closer to an end than this are left out."""


@dataclass(frozen=True)
class Axis:
    """The axis of one searched path: a range of numbers, or the values of a choice side by side."""

    path: str
    choices: Sequence[Value] | None
    """Values tried of a choice, or None for a range."""
    low: float = 0.0
    high: float = 1.0
    logarithmic: bool = False
    whole: bool = False

    @property
    def is_discrete(self) -> bool:
        """True if many trials can share a value."""
        return self.choices is not None or self.whole

    def place(self, value: Value) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        if self.choices is not None:
            return (list(self.choices).index(value) + 0.5) / len(self.choices)
        return self._share(float(value))

    def ticks(self) -> list[tuple[float, str]]:
        """Return (position, label) of each tick."""
        if self.choices is not None:
            return [(self.place(value), setting(value)) for value in self.choices]
        if self.whole and self.high - self.low < FEW:
            return [(self._share(value), str(value)) for value in range(int(self.low), int(self.high) + 1)]
        inner = [value for value in self._round_numbers() if NEAR < self._share(value) < 1 - NEAR]
        return [(self._share(value), f"{value:.3g}") for value in (self.low, *inner, self.high)]

    def _share(self, value: float) -> float:
        if self.high <= self.low:
            return 0.5
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def _round_numbers(self) -> list[float]:
        """Return round numbers as candidates for ticks, about three on a linear axis."""
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1.0, 3.0) if self.high / self.low < 1000 else (1.0,)
            return [step * 10.0**decade for decade in decades for step in steps]
        rough = (self.high - self.low) / 4 or 1.0
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * size for size in (1, 2, 5, 10) if unit * size >= rough)
        return [step * count for count in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def axes(record: RunRecord, trials: Sequence[Trial]) -> list[Axis]:
    """Return an axis for each path that these trials searched, in the order of the space."""
    found = []
    for path, domain in record.search.domains.items():
        values = [trial.values[path] for trial in trials if path in trial.values]
        if values:
            found.append(_axis(path, domain, values))
    return found


def _axis(path: str, domain: Domain, values: Sequence[Value]) -> Axis:
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if not isinstance(domain, Choice) and len(numbers) == len(values):
        low, high = min(domain.low, *numbers), max(domain.high, *numbers)
        whole = all(isinstance(value, int) for value in numbers)
        return Axis(path, None, low, high, isinstance(domain, LogUniform), whole)
    listed = domain.values if isinstance(domain, Choice) else ()
    known = {json.dumps(value): place for place, value in enumerate(listed)}
    choices = {json.dumps(value): value for value in values}
    if len(numbers) == len(values):
        return Axis(path, sorted(choices.values(), key=lambda value: float(value)))
    order = sorted(choices, key=lambda text: (known.get(text, len(known)), text))
    return Axis(path, [choices[text] for text in order])
