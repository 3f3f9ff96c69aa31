"""Record of a run, ``run.yaml``: its spec, and where its results come from.

It is written when the run starts, and compared with the options when the run is resumed. Runs of older versions have
``asked.yaml`` instead, which ``upgrade`` converts.
"""

from __future__ import annotations

import functools
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cluster import revision
from cluster.run_folder import CONFIG_FILE, RUN_FILE, RUN_FILES
from htt import yaml_text
from htt.config import Config, override, plain_value
from htt.data.location import data_key
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, RunError, shown
from tune.experiments import space
from tune.experiments.constraints import Constraint, parse
from tune.experiments.space import Domain
from tune.experiments.spec import RunSpec, SearchSpec, StudySpec, Tuned
from tune.experiments.study import Study
from tune.results.trials import Trial

if TYPE_CHECKING:
    from tune.results.sync import Storage

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
        plain = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
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


def _plain(value: Any) -> Any:
    if isinstance(value, RunSpec | Tuned):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Study):
        return value.plain()
    if isinstance(value, Domain):
        return space.to_plain(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Constraint) else plain_value(value)


# Resuming a run


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


NOT_OPTIONS = {"domains": "the space", "base": "the base configuration"}
OPTIONS = {"objectives": "--objective", "constraints": "--constraint"}


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
    return {name: _plain(value) for name, value in values.items()}


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
