"""Options of a run and of a search, and their checks, which need no machine."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.run_folder import check_run_name
from cluster.storage import absolute_uri
from htt.config import Value
from htt.console import clock
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, did_you_mean, shown
from htt.evaluation.metric_table import METRICS
from htt.text import plural
from tune.experiments import constraints
from tune.experiments.constraints import KNEE, Constraint, check_bounds, check_metric

METRIC = "hand_error_mm"
"""Default metric that trials are selected by. It is known after every epoch, changes smoothly and does not depend on
the loss weights, as the loss does. Accuracy over a few dozen validation clips changes in coarse steps, with many ties.
``--metric action_accuracy`` selects by the action head instead."""
WEIGHTED = "loss"
"""The metric that depends on the weights ``loss.*`` of a configuration; its terms, such as loss_action, do not."""
LATENCY = "latency_ms"
ALGORITHMS = ("tpe", "random")
SCHEDULERS = ("asha", "none")


@dataclass(frozen=True)
class Run:
    """Options common to searches and studies: resources, storage, name and resuming."""

    max_concurrent: int | None = None
    workers_per_trial: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float | None = None
    storage: str | None = None
    """Folder or URI all machines can write to, or None for ``runs``."""
    runs: Path = Path("runs")
    address: str | None = None
    name: str | None = None
    resume: bool = False
    share_any: bool = False
    """Allow results of other versions of the code beside results of this one."""
    command: str = ""

    @property
    def home(self) -> Path:
        """The folder of all runs on this machine."""
        return home(self.storage, self.runs)


@dataclass(frozen=True)
class Search(Run):
    """Options of a search, except its space."""

    space: str = "quick"
    """Name of the space, for the record."""
    assignments: Mapping[str, Value] = field(default_factory=dict)
    """Values fixed by ``--set``: {dotted path: value}; these paths are no longer searched."""
    trials: int | None = None
    time_budget_s: float | None = None
    """Time budget of the search, s, from the moment the data are ready; None for no limit."""
    seed: int = 0
    metric: str = METRIC
    """Metric that selects trials and that the scheduler reads."""
    objectives: Sequence[str] = ()
    """All objectives, ``metric`` first, if there are several; otherwise empty."""
    constraints: Sequence[Constraint] = ()
    pick: str = KNEE
    """Rule that picks one trial from the Pareto front; see ``tune.results.selection``."""
    warm_start: Sequence[str] = ()
    """Runs whose trials the search starts with."""
    points: Sequence[str] = ()
    """Initial points, in the form that ``tune.searchers.warm_start.points`` reads."""
    algorithm: str = "tpe"
    scheduler: str = "asha"

    @property
    def goals(self) -> Sequence[str]:
        """The objectives of the Optuna study: ``objectives``, or ``metric`` alone."""
        return self.objectives or [self.metric]


LONGEST_S = 366 * 24 * 3600.0
"""Longest time budget, s."""


def parse_budget(text: str) -> float:
    """Return the seconds of a duration such as "90", "8m", "1h30m" or "2h".

    Raises:
        ConfigError: the text is not a duration, or the duration is 0 or longer than ``LONGEST_S``.
    """
    number = r"([0-9]+(?:\.[0-9]+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", text.strip())
    parts = zip(match.groups(), (3600, 60, 1), strict=True) if match else ()
    seconds = sum(float(part or 0) * unit for part, unit in parts)
    if not 0 < seconds <= LONGEST_S:
        raise ConfigError(
            f"--time-budget takes a time above 0 and up to a year, such as 90s, 8m or 1h30m; got {shown(text)}."
        )
    return seconds


def check_options(search: Search) -> None:
    """Raise a ``ConfigError`` for the first invalid option of a search."""
    for name in search.goals:
        check_metric(name)
    check_objectives(search.objectives)
    check_bounds(search.constraints)
    constraints.check_rule(search.pick)
    check_name("--algorithm", search.algorithm, ALGORITHMS)
    check_name("--scheduler", search.scheduler, SCHEDULERS)
    _check_positive("--trials", search.trials)
    if not 0 <= search.seed < 2**32:
        raise ConfigError(f"--seed must be 0 to {2**32 - 1}; got {shown(search.seed)}.")
    check_run(search)


def check_comparable(metrics: Iterable[str], searched: Iterable[str]) -> None:
    """Raise a ``ConfigError`` if trials are judged by the loss while its weights differ between trials.

    Args:
        metrics: the metrics that trials are selected, bounded or compared by.
        searched: the dotted paths in which trials differ.
    """
    weights = [path for path in searched if path.startswith("loss.")]
    if WEIGHTED in metrics and weights:
        raise ConfigError(
            f"Cannot compare trials by {WEIGHTED}: each has its own {' and '.join(weights)}, so the smallest weights "
            f"would win. Use a metric that means the same for all, such as {METRIC} or "
            f"action_accuracy, or fix the weights: --set {weights[0]}=1."
        )


def check_objectives(names: Sequence[str]) -> None:
    """Raise a ``ConfigError`` for an objective that is given twice."""
    twice = list(dict.fromkeys(name for name in names if list(names).count(name) > 1))
    if twice:
        raise ConfigError(f"--objective names each metric once; got {', '.join(twice)} twice.")


def check_known(named: Sequence[str], unknown: Mapping[str, str]) -> None:
    """Raise a ``ConfigError`` for metrics that the validation clips cannot give.

    Args:
        named: the metrics that the run uses.
        unknown: {metric: why the clips cannot give it}.
    """
    can = ", ".join(name for name in METRICS if name not in unknown)
    faults = [f"The data cannot give {name}: {unknown[name]}." for name in named if name in unknown]
    if faults:
        faults[-1] += f" Metrics they can give: {can}."
        raise ConfigError.of(faults)


def check_run(run: Run) -> None:
    """Raise a ``ConfigError`` for the first invalid option common to all runs."""
    _check_positive("--max-concurrent", run.max_concurrent)
    _check_positive("--workers-per-trial", run.workers_per_trial)
    if not 0 < run.cpus_per_worker < math.inf:
        raise ConfigError(f"--cpus-per-worker must be a number above 0; got {run.cpus_per_worker:g}.")
    if run.gpus_per_trial is not None and not 0 <= run.gpus_per_trial < math.inf:
        raise ConfigError(f"--gpus-per-trial must be a number of 0 or more; got {run.gpus_per_trial:g}.")
    if run.name is not None:
        check_run_name(run.name, "--resume" if run.resume else "--name")


def check_latency(metrics: Sequence[str], workers: int, concurrent: int) -> None:
    """Raise a ``ConfigError`` if latency is a metric and several trials with several workers run at once.

    Latency must be measured while nothing else runs. Trials with one worker wait while another trial measures
    (``htt.neighbours``); trials with several workers cannot.
    """
    if LATENCY in metrics and workers > 1 and concurrent > 1:
        raise ConfigError(
            f"{LATENCY} must be measured with nothing else running; got {concurrent} trials of {workers} workers at "
            "once. Add --max-concurrent 1, or --workers-per-trial 1, whose trials wait for the one that measures."
        )


def _check_positive(option: str, number: int | None) -> None:
    if number is not None and not 1 <= number < 2**31:
        raise ConfigError(f"{option} must be {'1 or more' if number < 1 else 'below 2^31'}; got {shown(number)}.")


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """Raise a ``ConfigError`` unless ``name`` is one of ``known``."""
    if name not in known:
        raise ConfigError(f"{option} must be one of {', '.join(known)}; got {shown(name)}.{did_you_mean(name, known)}")


def limits(search: Search) -> str:
    """Return the limits of a search as text, for example "8 trials are done or 10:00 min have passed"."""
    words = [f"{plural(search.trials, 'trial')} {'is' if search.trials == 1 else 'are'} done"] if search.trials else []
    if search.time_budget_s is not None:
        words.append(f"{clock(search.time_budget_s)} min have passed")
    return " or ".join(words)


def home(uri: str | None, runs: Path = Path("runs")) -> Path:
    """Return the folder of all runs on this machine: the storage if it is a local folder, otherwise ``runs``.

    Raises:
        ConfigError: ``uri`` holds a password.
    """
    if uri is None:
        return runs
    place = absolute_uri(uri)
    return runs if is_remote(place) else Path(place)
