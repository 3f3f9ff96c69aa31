"""Resuming a run: its recorded spec with the options that are given now, and what must not have changed since."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import tyro

from cluster import revision
from cluster.run_folder import CONFIG_FILE
from htt.config import Config, override
from htt.data.location import data_key
from htt.data.store.remote import is_remote
from htt.errors import RunError
from tune.experiments import spec as specs
from tune.experiments.spec import RunOptions, RunSpec, SearchSpec, StudySpec
from tune.results.run_folder import RunFolder, Trial
from tune.results.run_record import SCHEMA, SCRIPTS, RunRecord, as_plain
from tune.results.sync import Storage, locate

SpecT = TypeVar("SpecT", SearchSpec, StudySpec)
NOT_OPTIONS = {"domains": "the space", "base": "the base configuration"}
OPTIONS = {"objectives": "--objective", "constraints": "--constraint"}
"""{field of a spec: words or option for it in messages}; the others are options named like the field."""


class Options(Protocol):
    """Options of a command that starts or resumes a run."""

    resume: str | None

    @property
    def arguments(self) -> Sequence[str] | None:
        """Words that the options were parsed from."""

    @property
    def spec(self) -> RunOptions:
        """Options that are part of the run's spec."""


def resumed(
    options: Options, kind: type[SpecT], fixed: Sequence[str], changes: Mapping[str, Any] | None = None
) -> tuple[SpecT, RunFolder]:
    """Return the recorded spec of the run to resume, with the options that are given now, and the run's folder.

    Args:
        options: options of the command.
        kind: spec of the runs that the command resumes.
        fixed: names of the options that only a new run takes.
        changes: fields of the spec that other options give: {name: value}.

    Raises:
        RunError: there is no such run, it is of another kind, or an option may not change.
    """
    values = {name: getattr(options, name, getattr(options.spec, name, None)) for name in fixed}
    if given := [f"--{name.replace('_', '-')}" for name, value in values.items() if value]:
        raise RunError(f"Cannot combine {', '.join(given)} with --resume. Drop them, or start a new run.")
    folder = locate(str(options.resume), options.spec.storage)
    record = folder.record
    check_kind(record, kind.KIND)
    began = local(record.spec_of(kind), folder.path)
    command: Any = type(options)
    recorded = command(spec=specs.options(type(options.spec), began))
    now = tyro.cli(command, args=options.arguments, default=recorded).spec  # as recorded unless given
    spec = replace(began, **{**vars(now), "storage": began.storage, **(changes or {})})
    check_unchanged(record, spec)
    return spec, folder


def continued(record: RunRecord) -> RunRecord:
    """Return the record of a resumed run, with the commit and identity of the current code added."""
    commits = [*record.later_commits, *({revision.commit()} - {record.commit, *record.later_commits})]
    before = record.codes or [revision.UNKNOWN]  # record of an older version
    codes = [*before, *({revision.identity()} - {*before})]
    return replace(record, schema=SCHEMA, later_commits=commits, codes=codes)


def local(spec: SpecT, folder: Path) -> SpecT:
    """Return the spec of a run with the location of the folder that it was read from; a copy may have moved."""
    if is_remote(str(spec.storage)):
        return spec
    return replace(spec, storage=None, name=folder.name)


def check_name(storage: Storage, *, resume: bool) -> None:
    """Raise a ``RunError`` if the name of a new run is taken, or a run to resume does not exist."""
    exists = storage.exists()
    if not resume and (storage.local / CONFIG_FILE).exists():
        raise RunError(f"Cannot use a name twice: {storage.local} is a final training. Choose another --name.")
    if exists and not resume:
        raise RunError(
            f"Cannot use a name twice: {storage.local} is a run already. Choose another --name, or resume it: "
            f"--resume {storage.local.name}"
        )
    if resume and not exists:
        raise RunError(f"No run to resume at {storage.uri}.")


def check_kind(record: RunRecord, kind: str) -> None:
    """Raise a ``RunError`` unless the run is of this kind, "search" or "study"."""
    if record.kind != kind:
        raise RunError(
            f"Cannot resume {record.name} with tune/{SCRIPTS[kind]}.py: it is a {record.kind}. "
            f"Resume it with: python tune/{SCRIPTS[record.kind]}.py --resume {shlex.quote(record.name)}"
        )


def check_unchanged(record: RunRecord, spec: SearchSpec | StudySpec) -> None:
    """Raise a ``RunError`` if a resumed run differs from its record in more than limits and location.

    Trials before and after such a change could not be compared. Warm-start trials and points are part of the run.
    """
    check_kind(record, spec.KIND)
    began, now = _comparable(record.spec, record.schema), _comparable(spec, record.schema)
    changed = [name for name in now if now[name] != began[name]]
    if not changed:
        return
    named = [NOT_OPTIONS.get(name) or OPTIONS.get(name) or f"--{name.replace('_', '-')}" for name in changed]
    message = f"Cannot change {' and '.join(named)} when resuming {record.name}"
    options = [name for name in changed if name not in NOT_OPTIONS]
    if not options:
        raise RunError(f"{message}. Start a new run.")
    started, got = (" and ".join(_shown(each[name]) for name in options) for each in (began, now))
    raise RunError(
        f"{message}: it was started with {started}, got {got}. Drop the option{'s' if len(options) > 1 else ''} or "
        "start a new run."
    )


def _comparable(spec: RunSpec, schema: int) -> dict[str, Any]:
    """Return the plain values that must be equal in a resumed run; domains of older records are rounded text."""
    changeable = spec.CHANGEABLE | {"name", "warm_start", "points", "assignments"}  # assignments are part of the base
    values = {each.name: getattr(spec, each.name) for each in fields(spec) if each.name not in changeable}
    if schema == 0 and "domains" in values:
        values["domains"] = {path: str(domain) for path, domain in values["domains"].items()}
    if "base" in values:
        values["base"] = spec.config().fingerprint()
    return {name: as_plain(value) for name, value in values.items()}


def _shown(value: Any) -> str:
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def check_same_data(record: RunRecord, trials: Sequence[Trial], base: Config, configs: Sequence[Config]) -> None:
    """Raise a ``RunError`` if the data of a resumed run differ from the data it was started with.

    Data are compared by checksums, not by location: a copy or a link of the same shards at ``data.root`` is equal.

    Args:
        record: record of the run.
        trials: finished trials of the run.
        base: base configuration.
        configs: a configuration for each data set of the run.
    """
    now = list(dict.fromkeys(data_key(config) for config in configs))
    pairs = list(zip(record.data, now, strict=False))
    keys: dict[str, str] = {}  # most trials have the same data
    for trial in trials:
        if trial.data is not None and trial.metrics:
            moves = {path: value for path, value in trial.values.items() if path.startswith("data.")}
            if str(moves) not in keys:
                keys[str(moves)] = data_key(override(base, moves))
            pairs.append((trial.data, keys[str(moves)]))
    for before, current in pairs:
        if before != current:
            place = base.data.root or "the rendered benchmark of this version"
            raise RunError(
                f"Cannot resume {record.name}: its data changed. It was started with {before}, and {place} is now "
                f"{current}. Put the first data back (a copy or a link at the same place will do), or start a new run."
            )
