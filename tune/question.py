"""What is asked of a run: its options, checked before a machine is asked for, and their record in the run."""

from __future__ import annotations

import math
import re
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cluster import revision
from cluster.folder import CONFIG_FILE, check_run_name
from htt.config import Config, Value, override
from htt.console import clock
from htt.data.location import data_key
from htt.data.remote import is_remote
from htt.errors import ConfigError, RunError, did_you_mean, shown
from htt.text import plural
from htt.training.metric_table import METRICS
from tune import front
from tune.constraints import Constraint, check_bounds, parse
from tune.results import Asked, RunFolder, Trial, check_metric
from tune.space import Choice, Space
from tune.storage import Storage, home

METRIC = "hand_error_mm"
"""What trials are selected by. It says something after every epoch, changes smoothly, and means the same whatever the
loss weights are, as the loss does not; accuracy over some dozens of validation clips comes in coarse steps with many
ties. ``--metric action_accuracy`` selects by the other end of the model."""
WEIGHTED = "loss"
"""The metric that is made with the weights ``loss.*`` of a configuration; its terms, as loss_action, are not."""
LATENCY = "latency_ms"
ALGORITHMS = ("tpe", "random")
SCHEDULERS = ("asha", "none")


@dataclass(frozen=True)
class Run:
    """How and where trials are run, whoever says which."""

    max_concurrent: int | None = None
    workers_per_trial: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_trial: float | None = None
    storage: str | None = None
    """Folder or URI all machines can write to; none: ``runs``."""
    runs: Path = Path("runs")
    address: str | None = None
    name: str | None = None
    resume: bool = False
    share_any: bool = False
    """Whether numbers that other code computed may stand beside this code's."""
    command: str = ""

    @property
    def home(self) -> Path:
        """The folder of all runs on this machine."""
        return home(self.storage, self.runs)


RunT = TypeVar("RunT", bound=Run)


@dataclass(frozen=True)
class Search(Run):
    """What is asked for, beside the space."""

    space: str = "quick"
    """The space's name, for the record."""
    assignments: Mapping[str, Value] = field(default_factory=dict)
    """What --set fixes; a path that the space searches is searched no longer."""
    trials: int | None = None
    time_budget_s: float | None = None
    """Of the search, from when the data are ready."""
    seed: int = 0
    metric: str = METRIC
    """Selected by, and watched by the scheduler."""
    objectives: Sequence[str] = ()
    """All that is to be made good, ``metric`` first, where there are several; else none."""
    constraints: Sequence[Constraint] = ()
    pick: str = front.KNEE
    """The rule by which one trial is picked from the front of several objectives."""
    warm_start: Sequence[str] = ()
    """Runs whose trials it begins with."""
    points: Sequence[str] = ()
    """To try first, as ``tune.beginnings.points`` reads them."""
    algorithm: str = "tpe"
    scheduler: str = "asha"

    @property
    def goals(self) -> Sequence[str]:
        """What Optuna is told: the objectives, or the metric alone."""
        return self.objectives or [self.metric]


LONGEST_S = 366 * 24 * 3600.0
"""The longest time budget."""


def parse_budget(text: str) -> float:
    """Seconds of "90", "8m", "1h30m" or "2h".

    Raises:
        ConfigError: it is no such time, or none at all.
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
    """Raise a ``ConfigError`` for an option that cannot be."""
    for name in search.goals:
        check_metric(name)
    check_objectives(search.objectives)
    check_bounds(search.constraints)
    front.check_rule(search.pick)
    check_name("--algorithm", search.algorithm, ALGORITHMS)
    check_name("--scheduler", search.scheduler, SCHEDULERS)
    _check_positive("--trials", search.trials)
    if not 0 <= search.seed < 2**32:
        raise ConfigError(f"--seed must be 0 to {2**32 - 1}; got {shown(search.seed)}.")
    check_run(search)


def check_comparable(metrics: Iterable[str], searched: Iterable[str]) -> None:
    """Raise a ``ConfigError`` for a metric that each trial would compute by another rule.

    Args:
        metrics: that trials are selected, bounded or compared by.
        searched: the paths in which trials differ.
    """
    weights = [path for path in searched if path.startswith("loss.")]
    if WEIGHTED in metrics and weights:
        raise ConfigError(
            f"Cannot compare trials by {WEIGHTED}: each has its own {' and '.join(weights)}, so the smallest weights "
            f"would win. Use a metric that means the same for all, such as {METRIC} or "
            f"action_accuracy, or fix the weights: --set {weights[0]}=1."
        )


def check_objectives(names: Sequence[str]) -> None:
    """Raise a ``ConfigError`` for an objective that is named twice."""
    twice = list(dict.fromkeys(name for name in names if list(names).count(name) > 1))
    if twice:
        raise ConfigError(f"--objective names each metric once; got {', '.join(twice)} twice.")


def check_known(named: Sequence[str], unknown: Mapping[str, str]) -> None:
    """Raise a ``ConfigError`` for metrics that the validation clips cannot give.

    Args:
        named: the metrics of the question.
        unknown: {metric: why the clips cannot give it}.
    """
    can = ", ".join(name for name in METRICS if name not in unknown)
    faults = [f"The data cannot give {name}: {unknown[name]}." for name in named if name in unknown]
    if faults:
        faults[-1] += f" Metrics they can give: {can}."
        raise ConfigError.of(faults)


def check_run(run: Run) -> None:
    """Raise a ``ConfigError`` for an option that cannot be, of those every run has."""
    _check_positive("--max-concurrent", run.max_concurrent)
    _check_positive("--workers-per-trial", run.workers_per_trial)
    if not 0 < run.cpus_per_worker < math.inf:
        raise ConfigError(f"--cpus-per-worker must be a number above 0; got {run.cpus_per_worker:g}.")
    if run.gpus_per_trial is not None and not 0 <= run.gpus_per_trial < math.inf:
        raise ConfigError(f"--gpus-per-trial must be a number of 0 or more; got {run.gpus_per_trial:g}.")
    if run.name is not None:
        check_run_name(run.name, "--resume" if run.resume else "--name")


def check_latency(metrics: Sequence[str], workers: int, concurrent: int) -> None:
    """Raise a ``ConfigError`` where trials are judged by a time that they would measure beside one another.

    Trials of one worker wait for the one that measures (``htt.training.neighbours``); those of several cannot.
    """
    if LATENCY in metrics and workers > 1 and concurrent > 1:
        raise ConfigError(
            f"{LATENCY} must be measured with nothing else running; got {concurrent} trials of {workers} workers at "
            "once. Add --max-concurrent 1, or --workers-per-trial 1, whose trials wait for the one that measures."
        )


def _check_positive(option: str, number: int | None) -> None:
    if number is not None and not 1 <= number < 2**31:
        raise ConfigError(f"{option} must be {'1 or more' if number < 1 else 'below 2^31'}; got {shown(number)}.")


def check_name_is_free(run: Run, storage: Storage) -> None:
    """Raise a ``RunError`` for a name that is taken, or that has nothing to resume."""
    exists = storage.exists()
    if not run.resume and (storage.local / CONFIG_FILE).exists():
        raise RunError(f"A run's name is used once; {storage.local} is a final training. Choose another --name.")
    if exists and not run.resume:
        raise RunError(
            f"A run's name is used once; {storage.local} is a run already. "
            f"Choose another --name, or go on with it: --resume {storage.local.name}"
        )
    if run.resume and not exists:
        raise RunError(f"There is no run to resume at {storage.uri}.")


def check_same_question(asked: Asked, search: Search, space: Space, base: Config) -> None:
    """A run is gone on with as it was asked: numbers of two questions would not compare."""
    check_kind(asked, "search")
    domains = {path: str(domain) for path, domain in space.domains.items()}
    differs = [
        word
        for word, same in (
            (f"the space {asked.space}", domains == dict(asked.domains)),
            ("the base configuration", asked.config().fingerprint() == base.fingerprint()),
            (f"the metric {asked.metric}", asked.metric == search.metric),
            ("the objectives", list(asked.objectives) == list(search.objectives)),
            ("the constraints", list(asked.constraints) == [str(each) for each in search.constraints]),
        )
        if not same
    ]
    if differs:
        raise RunError(
            f"A run is resumed with the question it was asked; since {asked.name} began, "
            f"{' and '.join(differs)} changed. Begin a new run."
        )


def check_same_data(asked: Asked, trials: Sequence[Trial], base: Config, configs: Sequence[Config]) -> None:
    """Raise a ``RunError`` where the data of a resumed run are others than it was started with.

    Places do not count, checksums do: a copy or a link of the same shards at ``data.root`` is the same data.

    Args:
        asked: the run's record.
        trials: its finished trials.
        base: what they started from.
        configs: one for each of its data sets.
    """
    now = [data_key(config) for config in configs]
    pairs = list(zip(asked.data, now, strict=False))
    keys: dict[str, str] = {}  # most trials have the same data
    for trial in trials:
        if trial.data is not None and trial.metrics:
            moves = {path: value for path, value in trial.values.items() if path.startswith("data.")}
            if str(moves) not in keys:
                keys[str(moves)] = data_key(override(base, moves))
            pairs.append((trial.data, keys[str(moves)]))
    for began, found in pairs:
        if began != found:
            place = base.data.root or "the rendered benchmark of this version"
            raise RunError(
                f"Cannot resume {asked.name}: its data changed. It was started with {began}, and {place} is now "
                f"{found}. Put the first data back (a copy or a link at the same place will do), or start a new run."
            )


def gone_on(asked: Asked) -> Asked:
    """Return the record of a run that is resumed, with this code in it."""
    commits = [*asked.later_commits, *({revision.commit()} - {asked.commit, *asked.later_commits})]
    before = asked.codes or [revision.UNKNOWN]  # of an older version
    codes = [*before, *({revision.identity()} - {*before})]
    return replace(asked, later_commits=commits, codes=codes)


def check_same_options(asked: Asked, given: Mapping[str, Any]) -> None:
    """Raise a ``RunError`` for options that a run which is resumed was begun with otherwise.

    Args:
        asked: the run's record.
        given: {field of the record: its value now}; none: not given.
    """
    differs = {name: now for name, now in given.items() if now is not None and now != getattr(asked, name)}
    if differs:

        def words(values: Mapping[str, Any]) -> str:
            return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())

        began = words({name: getattr(asked, name) for name in differs})
        raise RunError(
            f"A run is resumed as it began; {asked.name} began with {began}, and got {words(differs)}. Leave that out, "
            "or begin a new run."
        )


def check_kind(asked: Asked, kind: str) -> None:
    """Raise a ``RunError`` for a run of another kind."""
    if asked.kind != kind:
        script = {"search": "search", "study": "ablate"}[asked.kind]
        raise RunError(
            f"A run is resumed by the script that began it; {asked.name} is a {asked.kind}. "
            f"Go on with it: python tune/{script}.py --resume {shlex.quote(asked.name)}"
        )


def resumed(asked: Asked, search: Search) -> Search:
    """The search that goes on with a run: its own question, and its own limits unless others are given now."""
    check_kind(asked, "search")
    limited = search.trials is not None or search.time_budget_s is not None
    return replace(
        search,
        resume=True,
        name=asked.name,
        space=asked.space,
        assignments=dict(asked.assignments),
        metric=asked.metric,
        objectives=tuple(asked.objectives),
        constraints=parse(asked.constraints),
        pick=asked.pick,
        seed=asked.seed,
        algorithm=asked.algorithm,
        scheduler=asked.scheduler,
        workers_per_trial=asked.workers_per_trial,
        cpus_per_worker=asked.cpus_per_worker,
        gpus_per_trial=asked.gpus_per_trial,
        trials=search.trials if limited else asked.trials or None,
        time_budget_s=search.time_budget_s if limited else asked.time_budget_s,
    )


def located(run: RunT, folder: RunFolder, asked: Asked) -> RunT:
    """The same with the place where its run was found."""
    if is_remote(asked.storage):
        return replace(run, runs=folder.path.parent, storage=asked.storage)
    return replace(run, runs=folder.path.parent, storage=None, name=folder.name)


def record(search: Search, space: Space, base: Config, name: str, points: Sequence[Mapping[str, Value]] = ()) -> Asked:
    """The question, complete enough to ask it again."""
    return Asked(
        **record_of(search, base, name),
        space=search.space,
        domains={path: str(domain) for path, domain in space.domains.items()},
        choices={path: list(domain.values) for path, domain in space.domains.items() if isinstance(domain, Choice)},
        metric=search.metric,
        objectives=list(search.objectives),
        constraints=[str(each) for each in search.constraints],
        pick=search.pick,
        warm_start=list(search.warm_start),
        points=list(points),
        seed=search.seed,
        trials=search.trials or 0,
        time_budget_s=search.time_budget_s,
        algorithm=search.algorithm,
        scheduler=search.scheduler,
        assignments=dict(search.assignments),
    )


def record_of(run: Run, base: Config, name: str) -> dict[str, Any]:
    """What is written down of every run, whatever its question."""
    return {
        "name": name,
        "command": run.command or " ".join(sys.argv),
        "base": base.model_dump(mode="json"),
        "workers_per_trial": run.workers_per_trial,
        "cpus_per_worker": run.cpus_per_worker,
        "gpus_per_trial": run.gpus_per_trial,
        "storage": run.storage or str(run.runs),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": revision.commit(),
        "codes": [revision.identity()],
        "versions": revision.versions(),
    }


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """Raise a ``ConfigError`` unless ``name`` is one of ``known``."""
    if name not in known:
        raise ConfigError(f"{option} must be one of {', '.join(known)}; got {shown(name)}.{did_you_mean(name, known)}")


def limits(search: Search) -> str:
    """When a search ends, in words."""
    words = [f"{plural(search.trials, 'trial')} {'is' if search.trials == 1 else 'are'} done"] if search.trials else []
    if search.time_budget_s is not None:
        words.append(f"{clock(search.time_budget_s)} min have passed")
    return " or ".join(words)
