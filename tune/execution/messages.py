"""Conversion of Tune's results and errors: metrics as numbers, and an error as one sentence."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError
from ray.tune.experiment import Trial as TuneTrial

from htt.errors import TrainingError
from htt.evaluation.metric_table import METRICS
from htt.parallel import out_of_memory

NAMED = re.compile(r"[\w.]*(Error|Exception|Interrupt|Exit)\w*: .")
"""Pattern of a traceback line that names an error."""


def curve(epochs: Mapping[int, Mapping[str, float]], metric: str) -> tuple[float, ...]:
    """Return a metric's value at each epoch, NaN if it is missing."""
    return tuple(epochs[epoch].get(metric, math.nan) for epoch in sorted(epochs))


def numbers(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a result."""
    return {name: float(result[name]) for name in METRICS if isinstance(result.get(name), int | float)}


def best(epochs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the best value of each metric over the epochs."""
    result: dict[str, float] = {}
    for name in dict.fromkeys(name for metrics in epochs for name in metrics):
        values = [metrics[name] for metrics in epochs if name in metrics and math.isfinite(metrics[name])]
        if values:
            result[name] = max(values) if METRICS[name].higher_is_better else min(values)
    return result


def sentence(trial: TuneTrial) -> str:
    """Return a crashed trial's error: out of memory, else the last line that names an error, else the last line."""
    error = trial.get_pickled_error() or trial.get_error() or _not_stored_yet(trial)
    cause = getattr(error, "cause", None) or error
    if memory := out_of_memory(f"{type(cause).__name__}: {cause}"):
        return f"{TrainingError.__name__}: {memory}"
    is_named = isinstance(cause, str | RayActorError) and NAMED.match(str(cause))  # see tune.execution.ray_errors
    text = str(cause) if is_named else f"{type(cause).__name__}: {cause}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if NAMED.match(line)]
    return (named or lines)[-1]


def _not_stored_yet(trial: TuneTrial) -> str | None:
    """Return the text of a trial's last error if Tune has not yet copied any to the run's storage."""
    try:
        text = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
    except OSError:
        return None
    return text.rpartition("Failure # ")[2].partition("\n")[2] or None
