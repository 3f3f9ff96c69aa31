"""Constraints of a search: bounds on metrics, such as ``parameters<=2e6`` or ``action_accuracy>=0.5``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from htt.errors import ConfigError, did_you_mean, shown
from htt.evaluation.metric_table import METRICS

_FORM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound on a metric of a trial's last epoch."""

    metric: str
    at_most: bool
    """True for an upper bound (``<=``), False for a lower bound (``>=``)."""
    bound: float

    def excess(self, value: float) -> float:
        """Return by how much a value violates the bound, relative to the bound; 0 or less if it is satisfied.

        For a bound of 0 the result is the absolute distance. Relative violations of different metrics can be summed,
        as Optuna does.
        """
        beyond = value - self.bound if self.at_most else self.bound - value
        return beyond / abs(self.bound) if self.bound else beyond

    def broken(self, metrics: Mapping[str, float]) -> str | None:
        """Return a description of the violation, or None if satisfied. A missing or non-finite metric violates it."""
        value = metrics.get(self.metric, math.nan)
        about = METRICS[self.metric]
        if not math.isfinite(value):
            return f"{self.metric} is not known"
        if self.excess(value) <= 0:
            return None
        shown_value, bound = about.number(value), about.number(self.bound)
        if shown_value == bound:  # both round to the same text
            shown_value, bound = f"{value:,.10g}", f"{self.bound:,.10g}"
        return f"{self.metric} {shown_value} {'>' if self.at_most else '<'} {bound}"

    def __str__(self) -> str:
        return f"{self.metric}{'<=' if self.at_most else '>='}{self.bound:.12g}"


def parse(texts: Iterable[str], option: str = "--constraint") -> tuple[Constraint, ...]:
    """Parse the constraints of a command line.

    Args:
        texts: each NAME<=NUMBER or NAME>=NUMBER.
        option: name of the command line option, for the message.

    Raises:
        ConfigError: one error that lists all invalid texts.
    """
    parsed, faults = [], []
    for text in texts:
        match = _FORM.fullmatch(text)
        bound = _number(match[3]) if match else math.nan
        if match is None or not math.isfinite(bound):
            faults.append(f"{option} must be NAME<=NUMBER or NAME>=NUMBER, as in 'parameters<=2e6'; got {shown(text)}")
        elif match[1] not in METRICS:
            near = did_you_mean(match[1], list(METRICS))
            faults.append(
                f"{option} must bound a metric; got {shown(match[1])}. Available: {', '.join(METRICS)}.{near}"
            )
        else:
            parsed.append(Constraint(match[1], match[2] == "<=", bound))
    if faults:
        raise ConfigError.of(faults)
    return tuple(parsed)


def check_bounds(constraints: Sequence[Constraint], option: str = "--constraint") -> None:
    """Raise a ``ConfigError`` for bounds outside the range of their metric, or that contradict each other.

    Args:
        constraints: the constraints of a search.
        option: name of the command line option, for the message.
    """
    faults = []
    for each in constraints:
        low, high = METRICS[each.metric].range
        if not low <= each.bound <= high:
            most = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
            faults.append(f"{option} must bound {each.metric} within its range, {most}; got {each}")
            if high == 1 and 1 < each.bound <= 100:
                faults[-1] += f". {each.bound:g} % is {each.bound / 100:g}"
    for each in constraints:
        for other in constraints:
            if each.metric == other.metric and each.at_most and not other.at_most and each.bound < other.bound:
                faults.append(f"{option} must allow some value; none satisfies both {each} and {other}")
    if faults:
        raise ConfigError.of(faults)


def broken(constraints: Sequence[Constraint], metrics: Mapping[str, float]) -> str | None:
    """Return a description of all violated constraints, or None if all are satisfied."""
    violations = [violation for each in constraints if (violation := each.broken(metrics))]
    return ", ".join(violations) or None


def excesses(constraints: Sequence[Constraint], metrics: Mapping[str, Any], missing: float = 0.0) -> dict[str, float]:
    """Return {constraint: violation}, see ``Constraint.excess``; ``missing`` for an unknown or non-finite metric."""
    result = {}
    for each in constraints:
        value = metrics.get(each.metric)
        if isinstance(value, int | float) and math.isfinite(value):
            result[str(each)] = each.excess(float(value))
        else:
            result[str(each)] = missing
    return result


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


KNEE, FIRST = "knee", "first"


def bounds(rule: str) -> Sequence[Constraint]:
    """Return the bound of a selection rule; empty for the rules ``knee`` and ``first``."""
    return () if rule in (KNEE, FIRST) else parse([rule], "--pick")


def check_rule(rule: str) -> None:
    """Raise a ``ConfigError`` unless ``rule`` is a valid selection rule."""
    if "=" in rule:
        check_bounds(parse([rule], "--pick"), "--pick")
    elif rule not in (KNEE, FIRST):
        raise ConfigError(
            f"--pick must be {KNEE}, {FIRST} or a bound such as 'latency_ms<=30'; got {shown(rule)}."
            f"{did_you_mean(rule, (KNEE, FIRST))}"
        )


def check_metric(name: str, known: Sequence[str] | None = None) -> None:
    """Raise a ``ConfigError`` unless ``name`` is in ``known``, the metrics of a run, or by default any metric."""
    names = list(METRICS) if known is None else list(known)
    if name not in names:
        raise ConfigError(f"No such metric: {shown(name)}. Available: {', '.join(names)}.{did_you_mean(name, names)}")
