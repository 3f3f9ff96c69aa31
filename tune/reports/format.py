"""Numbers and configuration values of a report as text: rounded, and with their unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cluster.revision import UNKNOWN
from htt.config import Value
from htt.evaluation import metric_table
from htt.evaluation.metric_table import Metric
from htt.text import NOTHING, escaped


def other_code(began: str | None, codes: Mapping[str, str | None]) -> str:
    """Return a warning that names the numbers of other code than the run started with; empty if there are none.

    Args:
        began: code that the run started with, or None if unknown.
        codes: {name of a result, in Markdown: code that produced it, or None if unknown}.
    """
    others: dict[str, list[str]] = {}
    for name, code in codes.items():
        if code != began:
            others.setdefault(escaped(code or UNKNOWN), []).append(name)
    first = escaped(began or UNKNOWN)
    others.pop(first, None)
    if not others:
        return ""
    listed = "; ".join(f"{', '.join(names)}: by {code}" for code, names in others.items())
    return (
        f"**Results of other code:** the run was started with {first}. {listed}. Results of two versions "
        "of the code or of a library may not be comparable."
    )


def scale(metric: Metric) -> float:
    """Return the factor for a metric's values on an axis: 100 for a fraction, which is shown in percent."""
    return 100.0 if metric.is_fraction else 1.0


def axis(metric: Metric) -> str:
    """Return the label of a metric's axis, such as ``Hand error [mm]``."""
    unit = "%" if metric.is_fraction else metric.unit
    return f"{metric.title} [{unit}]" if unit else metric.title


def of_difference(metric: Metric) -> str:
    """Return the label of an axis of differences, such as ``Hand error, difference to the reference [mm]``."""
    unit = "percentage points" if metric.is_fraction else metric.unit
    return f"{metric.title}, difference to the reference" + (f" [{unit}]" if unit else "")


def number(metric: Metric, value: float) -> str:
    """Return a value with its unit, or a dash if it is not finite."""
    return metric.number(value) if math.isfinite(value) else NOTHING


def span(metric: Metric, low: float, high: float) -> str:
    """Return an interval, such as ``31.2 to 40.1 %``, or a dash if an end is not finite."""
    return metric.span(low, high) if math.isfinite(low) and math.isfinite(high) else NOTHING


def difference(metric: Metric, value: float) -> str:
    """Return a difference with its sign and unit, such as ``+3.1 points``, or a dash if it is not finite."""
    if not math.isfinite(value):
        return NOTHING
    return metric.difference(value)


def difference_span(metric: Metric, low: float, high: float) -> str:
    """Return the interval of a difference, such as ``−14.0 to −10.8 mm``, or a dash if an end is not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NOTHING
    return metric.difference_span(low, high)


def deviation(metric: Metric, value: float) -> str:
    """Return a standard deviation with the unit of a difference, such as ``1.4 points`` or ``0.82 mm``."""
    return difference(metric, value).removeprefix("+")


def p_value(p: float) -> str:
    """Return a p value, such as ``0.031`` or ``< 0.001``."""
    if not math.isfinite(p):
        return NOTHING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def probability(share: float) -> str:
    """Return a share of draws, such as ``0.87``; close to 0 or 1 it is ``< 0.01`` or ``> 0.99``."""
    if not math.isfinite(share):
        return NOTHING
    return "< 0.01" if share < 0.005 else "> 0.99" if share > 0.995 else f"{share:.2f}"


def duration(seconds: float) -> str:
    """Return a duration, such as ``45 s``, ``12.5 min`` or ``3.2 h``."""
    if not math.isfinite(seconds):
        return NOTHING
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.995 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def count(number: float) -> str:
    """Return a count, such as ``873``, ``1.2 k`` or ``11.7 M``."""
    return metric_table.count(number) if math.isfinite(number) else NOTHING


def measure(largest: float, kind: str) -> tuple[float, str]:
    """Return the divisor of an axis of "seconds" or "parameters" and the resulting unit, such as (60.0, "min")."""
    units = ((3600.0, "h"), (60.0, "min")) if kind == "seconds" else ((1e9, "G"), (1e6, "M"), (1e3, "k"))
    return next((each for each in units if largest >= 2 * each[0]), (1.0, "s" if kind == "seconds" else ""))


def setting(value: object) -> str:
    """Return a configuration value as text: a float with three digits, names joined by plus signs, or a range."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        between = " to " if value and isinstance(value[0], float) else " + "
        return between.join(map(setting, value)) or "none"
    return "none" if value is None else str(value)


def changes(values: Mapping[str, Value]) -> str:
    """Return the changes of a variant, such as ``pose.window: 1, optim.lr: 0.001``; "nothing" for the base itself."""
    return ", ".join(f"{short(path)}: {setting(value)}" for path, value in values.items()) or "nothing"


def sample(values: Mapping[str, Value]) -> str:
    """Return a sample as text that wraps between two values, such as ``pose.window=8 action.cues=hands+object``."""
    chosen = {".".join(path.split(".")[-2:]): setting(value).replace(" + ", "+") for path, value in values.items()}
    return " ".join(f"{name}={value}" for name, value in chosen.items())


def short(path: str) -> str:
    """Return a dotted path without the prefix ``model.``."""
    return path.removeprefix("model.")
