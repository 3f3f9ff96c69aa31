"""Record of a run: written when it starts, compared with the options when it is resumed."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from cluster import revision
from cluster.run_folder import CONFIG_FILE
from htt.config import Config, Value, override
from htt.data.location import data_key
from htt.data.store.remote import is_remote
from htt.errors import RunError
from tune.experiments.constraints import parse
from tune.experiments.space import Choice, Space
from tune.experiments.spec import Run, Search
from tune.results.run_folder import Asked, RunFolder, Trial
from tune.results.sync import Storage

RunT = TypeVar("RunT", bound=Run)


def check_name_is_free(run: Run, storage: Storage) -> None:
    """Raise a ``RunError`` if the name of a new run is taken, or a run to resume does not exist."""
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
    """Raise a ``RunError`` if a resumed search has a different space, base configuration, metrics or constraints.

    Trials before and after such a change could not be compared.
    """
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
    """Raise a ``RunError`` if the data of a resumed run differ from the data it was started with.

    Data are compared by checksums, not by location: a copy or a link of the same shards at ``data.root`` is equal.

    Args:
        asked: record of the run.
        trials: finished trials of the run.
        base: base configuration.
        configs: a configuration for each data set of the run.
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
    """Return the record of a resumed run, with the commit and identity of the current code added."""
    commits = [*asked.later_commits, *({revision.commit()} - {asked.commit, *asked.later_commits})]
    before = asked.codes or [revision.UNKNOWN]  # record of an older version
    codes = [*before, *({revision.identity()} - {*before})]
    return replace(asked, later_commits=commits, codes=codes)


def check_same_options(asked: Asked, given: Mapping[str, Any]) -> None:
    """Raise a ``RunError`` for options that differ from those the resumed run was started with.

    Args:
        asked: record of the run.
        given: {field of the record: current value, or None if not given}.
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
    """Raise a ``RunError`` unless the run is of this kind, "search" or "study"."""
    if asked.kind != kind:
        script = {"search": "search", "study": "ablate"}[asked.kind]
        raise RunError(
            f"A run is resumed by the script that began it; {asked.name} is a {asked.kind}. "
            f"Go on with it: python tune/{script}.py --resume {shlex.quote(asked.name)}"
        )


def resumed(asked: Asked, search: Search) -> Search:
    """Return the options of a resumed search: those of its record, with new limits if any are given."""
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
    """Return the options with the location where the run was found."""
    if is_remote(asked.storage):
        return replace(run, runs=folder.path.parent, storage=asked.storage)
    return replace(run, runs=folder.path.parent, storage=None, name=folder.name)


def record(search: Search, space: Space, base: Config, name: str, points: Sequence[Mapping[str, Value]] = ()) -> Asked:
    """Return the record of a search, complete enough to repeat it."""
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
    """Return the fields of the record that searches and studies share."""
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
