"""Resuming a run by its command: the recorded spec, with the options that are given now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import tyro

from htt.errors import RunError
from tune.experiments import spec as specs
from tune.experiments.spec import RunOptions, SearchSpec, StudySpec
from tune.results import run_record
from tune.results.run_folder import RunFolder
from tune.results.sync import locate

SpecT = TypeVar("SpecT", SearchSpec, StudySpec)


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
    run_record.check_kind(record, kind.KIND)
    began = run_record.local(record.spec_of(kind), folder.path)
    command: Any = type(options)
    recorded = command(spec=specs.options(type(options.spec), began))
    now = tyro.cli(command, args=options.arguments, default=recorded).spec  # as recorded unless given
    spec = replace(began, **{**vars(now), "storage": began.storage, **(changes or {})})
    run_record.check_unchanged(record, spec)
    return spec, folder
