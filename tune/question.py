"""What is asked of a run: its options, checked before a machine is asked for, and their record in the run."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from cluster import revision
from cluster.folder import CONFIG_FILE
from htt.config import Config, Value
from htt.console import clock
from htt.data.remote import is_remote
from htt.errors import ConfigError, RunError, did_you_mean
from tune import front
from tune.constraints import Constraint, check_bounds, parse
from tune.results import Asked, RunFolder, check_metric
from tune.space import Space
from tune.storage import Storage, home

METRIC = "hand_error_mm"
"""What trials are selected by. It says something after every epoch, changes smoothly, and means the same whatever the
loss weights are, as the loss does not; accuracy over some dozens of validation clips comes in coarse steps with many
ties. ``--metric action_accuracy`` selects by the other end of the model."""
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
            f"--time-budget takes a time above 0 and up to a year, such as 90s, 8m or 1h30m; got '{text[:200]}'."
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
    if search.seed < 0:
        raise ConfigError(f"--seed must be 0 or more; got {search.seed}.")
    check_run(search)


def check_objectives(names: Sequence[str]) -> None:
    """Raise a ``ConfigError`` for an objective that is named twice."""
    twice = list(dict.fromkeys(name for name in names if list(names).count(name) > 1))
    if twice:
        raise ConfigError(f"--objective names each metric once; got {', '.join(twice)} twice.")


def check_run(run: Run) -> None:
    """Raise a ``ConfigError`` for an option that cannot be, of those every run has."""
    _check_positive("--max-concurrent", run.max_concurrent)
    _check_positive("--workers-per-trial", run.workers_per_trial)
    if not run.cpus_per_worker > 0:
        raise ConfigError(f"--cpus-per-worker must be above 0; got {run.cpus_per_worker:g}.")
    if run.gpus_per_trial is not None and not run.gpus_per_trial >= 0:
        raise ConfigError(f"--gpus-per-trial must be 0 or more; got {run.gpus_per_trial:g}.")
    if run.name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", run.name):
        raise ConfigError(f"--name takes letters, digits, dots, dashes and underscores; got '{run.name}'.")


def _check_positive(option: str, number: int | None) -> None:
    if number is not None and number < 1:
        raise ConfigError(f"{option} must be 1 or more; got {number}.")


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
            f"Go on with it: python tune/{script}.py --resume {asked.name}"
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
        "versions": revision.versions(),
    }


def check_name(option: str, name: str, known: Sequence[str]) -> None:
    """Raise a ``ConfigError`` unless ``name`` is one of ``known``."""
    if name not in known:
        raise ConfigError(f"{option} must be one of {', '.join(known)}; got '{name}'.{did_you_mean(name, known)}")


def limits(search: Search) -> str:
    """When a search ends, in words."""
    words = [f"{search.trials} trials are done"] if search.trials else []
    if search.time_budget_s is not None:
        words.append(f"{clock(search.time_budget_s)} min have passed")
    return " or ".join(words)
