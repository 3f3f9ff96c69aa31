"""Record of a run, ``run.yaml``: its spec, and where its results come from.

It is written when the run starts, and compared with the options when the run is resumed, see
``tune/execution/resume.py``. Runs of older versions have ``asked.yaml`` instead, which ``upgrade`` converts.
"""

from __future__ import annotations

import functools
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cluster import revision
from cluster.run_folder import RUN_FILE, RUN_FILES
from htt import yaml_text
from htt.config import Config, plain_value
from htt.errors import ConfigError, RunError, shown
from tune.experiments import space
from tune.experiments.constraints import Constraint, parse
from tune.experiments.space import Domain
from tune.experiments.spec import RunSpec, SearchSpec, StudySpec, Tuned
from tune.experiments.study import Study

SCHEMA = 1
"""Version of the form of ``run.yaml``; a run of a newer one is refused. Records of ``asked.yaml`` have 0."""
SPECS: Mapping[str, type[SearchSpec] | type[StudySpec]] = {each.KIND: each for each in (SearchSpec, StudySpec)}
SCRIPTS = {"search": "search", "study": "ablate"}
_RANGE = re.compile(r"{0} to {0}(, logarithmic)?(?:, every (\d+))?".format(r"(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"))
SpecT = TypeVar("SpecT", bound=RunSpec)
RecordT = TypeVar("RecordT")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """Contents of ``run.yaml``, complete enough to repeat the run."""

    schema: int = SCHEMA
    command: str
    started: str
    commit: str
    versions: Mapping[str, str]
    codes: Sequence[str] = field(default_factory=list)
    """Identities of the code that trained it (``cluster.revision.identity``): at the start first, then at resumes."""
    later_commits: Sequence[str] = field(default_factory=list)
    """Commits that the run was resumed with, other than ``commit``."""
    data: Sequence[str] = field(default_factory=list)
    """Key of each data set (``htt.data.location.data_key``); empty for runs of older versions."""
    incomplete: Sequence[str] = field(default_factory=list)
    """Message for each split of the data with missing clips."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """Search: {metric: value reached without the images}; empty if the trials have several data sets."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """Study: {variant: number of trainable parameters}."""
    first_seeds: int = 0
    """Study: number of seeds it started with, or 0 if not recorded."""
    spec: SearchSpec | StudySpec

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.spec.name)

    @property
    def kind(self) -> str:
        """Kind of the run: "search" or "study"."""
        return self.spec.KIND

    def config(self) -> Config:
        """Return the base configuration."""
        return self.spec.config()

    @property
    def search(self) -> SearchSpec:
        """Spec of a search; raises a ``RunError`` if the run is a study."""
        return self.spec_of(SearchSpec)

    @property
    def study(self) -> StudySpec:
        """Spec of a study; raises a ``RunError`` if the run is a search."""
        return self.spec_of(StudySpec)

    def spec_of(self, kind: type[SpecT]) -> SpecT:
        """Return the spec; raises a ``RunError`` unless the run is of this kind."""
        if not isinstance(self.spec, kind):
            raise RunError(f"Expected a {kind.KIND}; {self.name} is a {self.kind}.")
        return self.spec

    def text(self) -> str:
        """Return the record as YAML."""
        plain = {each.name: as_plain(getattr(self, each.name)) for each in fields(self)}
        return yaml_text.dump({"schema": plain.pop("schema"), "kind": self.kind, **plain})


def provenance(command: str = "") -> dict[str, Any]:
    """Return the fields of a record that say what wrote it; ``command`` is by default that of this process."""
    return {
        "command": command or shlex.join(["python", *sys.argv]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "commit": revision.commit(),
        "codes": [revision.identity()],
        "versions": revision.versions(),
    }


def read(folder: Path) -> RunRecord:
    """Read the record of a run.

    Raises:
        RunError: the file is missing, invalid, or of a newer version.
    """
    file = next((folder / name for name in RUN_FILES if (folder / name).exists()), folder / RUN_FILE)
    try:
        plain = yaml_text.load(yaml_text.read(file, "it"), "it")
        return of_plain(plain if file.name == RUN_FILE else upgrade(plain))
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"Cannot read {file}, the record of a run: {error}") from error


def of_plain(plain: Any) -> RunRecord:
    """Return the record of the plain data in ``run.yaml``, with all types checked.

    Raises:
        ConfigError: the data are not a record, or one of a newer schema.
    """
    try:
        settings = dict(plain)
        if settings["schema"] > SCHEMA:
            raise ConfigError(
                f"its schema is {settings['schema']}, and this version reads up to {SCHEMA}. Use the version of the "
                "project that wrote it, or a newer one."
            )
        kind, spec = SPECS[settings.pop("kind")], dict(settings.pop("spec"))
        spec["domains"] = {path: space.of_plain(each) for path, each in spec.get("domains", {}).items()}
        if kind is SearchSpec:
            spec["constraints"] = parse(spec.get("constraints", ()))
        else:
            spec["study"] = Study.from_plain(spec["study"])
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(f"invalid or missing field: {shown(str(error), quoted=False)}") from error
    return checked({**settings, "spec": checked(spec, kind)}, RunRecord)


def upgrade(old: Any) -> dict[str, Any]:
    """Return the contents of ``asked.yaml`` in the form of ``run.yaml``, with schema 0.

    Domains were stored as text, with rounded numbers: they can be shown, but not drawn from.

    Raises:
        ConfigError: the contents are no mapping.
    """
    if not isinstance(old, Mapping):
        raise ConfigError(f"expected a mapping; got {shown(old)}.")
    kind, rest = old.get("kind", "search"), dict(old)
    spec = {each.name: rest[each.name] for each in fields(SPECS.get(kind, SearchSpec)) if each.name in rest}
    if kind == "search":
        choices = rest.get("choices", {})
        domains = dict(spec.get("domains", {}))
        domains = {path: _old_domain(str(text), choices.get(path)) for path, text in domains.items()}
        spec |= {"trials": spec.get("trials") or None, "domains": domains}
    else:
        spec.setdefault("study_name", "")
    for name in ("kind", "choices", *(each.name for each in (*fields(SearchSpec), *fields(StudySpec)))):
        rest.pop(name, None)
    return {"schema": 0, "kind": kind, **rest, "spec": spec}


def _old_domain(text: str, values: Sequence[Any] | None) -> dict[str, Any]:
    """Return a domain that ``str`` turns into this text; ``values`` are those of a choice, if recorded."""
    match = _RANGE.fullmatch(text)
    if match and not values and float(match[1]) < float(match[2]):
        whole = re.fullmatch(r"-?\d+ to -?\d+(, every \d+)?", text)
        kind = "LogUniform" if match[3] else "Integer" if whole else "Uniform"
        low, high = (int(end) if whole else float(end) for end in match.groups()[:2])
        return {"kind": kind, "low": low, "high": high, **({"step": int(match[4])} if match[4] else {})}
    return {"kind": "Choice", "values": values or [text.removeprefix("one of ")]}


def checked(plain: Any, kind: type[RecordT]) -> RecordT:
    """Create a record of type ``kind`` from the plain data of its file, with all types checked.

    Raises:
        ConfigError: fields are missing, unknown or of the wrong type.
    """
    try:
        kind(**plain)  # raises TypeError unless a mapping with exactly its fields
        record: RecordT = _adapter(kind).validate_python(plain)  # type: ignore[arg-type]  # a class is hashable
        return record
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)]
        raise ConfigError.of(faults) from error
    except TypeError as error:
        raise ConfigError(f"it holds something else: {shown(str(error), quoted=False)}") from error


@functools.cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Return the type adapter of a class; cached, since a report reads the records of many runs."""
    return TypeAdapter(kind)


def as_plain(value: Any) -> Any:
    """Return a value of a record as plain data for YAML."""
    if isinstance(value, RunSpec | Tuned):
        return {each.name: as_plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Study):
        return value.plain()
    if isinstance(value, Domain):
        return space.to_plain(value)
    if isinstance(value, Mapping):
        return {key: as_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(each) for each in value]
    return str(value) if isinstance(value, Constraint) else plain_value(value)
