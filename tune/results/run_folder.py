"""What a run leaves behind, readable on any laptop: neither Ray nor torch is needed here.

``runs/<name>/`` holds

=====================  ================================================================================================
``asked.yaml``         what was asked: command, space, base configuration, metric, seed, budget, commit, versions
``earlier.parquet``    of a search with ``--warm-start``: the trials of earlier runs it began with, as rows of its own
``trials.parquet``     one row a trial: state, epochs, seconds, each metric (last epoch and best), each searched path
``trials.jsonl``       while a run goes on: rows that are not in ``trials.parquet`` yet, one in sixteen at the most
``epochs.jsonl``       every epoch of every trial, the moment it ended
``best.yaml``          the best configuration: ``config``, ``changed`` (against the base) and ``found_by``
``report.md``          the same for people, with a picture
``optuna.journal``     a search's study, for ``optuna-dashboard``
``clips/``             of a study: what each training says of each validation clip, at its last epoch
=====================  ================================================================================================

Every file appears whole or not at all: it is written beside its place and moved there.
"""

from __future__ import annotations

import functools
import io
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import TypeAdapter, ValidationError

from htt import yaml_text
from htt.config import Config, Value, changed, from_plain, override
from htt.errors import ConfigError, RunError, did_you_mean, shown, storage_errors
from htt.evaluation.metric_table import METRICS
from tune.results.trials import STATES, Trial, frame, of_line, trials_of

__all__ = [
    "STATES",
    "Asked",
    "RunFolder",
    "Trial",
    "best_by",
    "best_text",
    "find",
    "is_usable",
    "ranked",
    "value",
    "write_text",
]


@dataclass(frozen=True)
class Asked:
    """The question of a run, complete enough to ask it again."""

    name: str
    command: str
    space: str
    domains: Mapping[str, str]
    base: Mapping[str, Any]
    """The configuration the trials start from, as nested plain data."""
    metric: str
    seed: int
    trials: int
    time_budget_s: float | None
    algorithm: str
    scheduler: str
    assignments: Mapping[str, Value]
    """What ``--set`` gave."""
    workers_per_trial: int
    cpus_per_worker: float
    gpus_per_trial: float | None
    """None: one for each process, where the machines had any."""
    storage: str
    started: str
    commit: str
    versions: Mapping[str, str]
    objectives: Sequence[str] = field(default_factory=list)
    """Of a search with several, ``metric`` first; else none."""
    constraints: Sequence[str] = field(default_factory=list)
    """As ``tune.experiments.constraints.parse`` takes them."""
    pick: str = "knee"
    """The rule by which one trial is picked from a front: see ``tune.results.selection``."""
    warm_start: Sequence[str] = field(default_factory=list)
    """The runs whose trials it began with."""
    points: Sequence[Mapping[str, Value]] = field(default_factory=list)
    """Samples that were tried first."""
    kind: str = "search"
    """Or "study"; then space, domains, algorithm and scheduler say nothing."""
    study_name: str = ""
    """The module of tune/studies."""
    study: Mapping[str, Any] = field(default_factory=dict)
    """The study as plain data: ``tune.experiments.study.Study.from_plain`` gives it back."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """{variant: numbers its model learns}."""
    first_seeds: int = 0
    """How many seeds a study began with; 0: not written down."""
    choices: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """{path: the values of its domain, in their order}, of those that are a choice."""
    later_commits: Sequence[str] = field(default_factory=list)
    """Of the code it was gone on with, where that was another."""
    incomplete: Sequence[str] = field(default_factory=list)
    """A sentence for each split of the data whose clips were not all there."""
    data: Sequence[str] = field(default_factory=list)
    """The key of each of its data sets (``htt.data.location.data_key``); empty: an older version did not note it."""
    codes: Sequence[str] = field(default_factory=list)
    """What trained it, as ``cluster.revision.identity`` gives it: the code it began with, then others."""

    def config(self) -> Config:
        """The base configuration."""
        return from_plain(self.base)


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """The Optuna study, for ``optuna-dashboard``."""
        return self.path / "optuna.journal"

    @property
    def newest(self) -> Path:
        """The rows of trials that ended since ``trials.parquet`` was written, as lines of JSON."""
        return self.path / "trials.jsonl"

    @property
    def epochs(self) -> Path:
        """What each epoch of each trial reported, as a line of JSON."""
        return self.path / "epochs.jsonl"

    @property
    def clips(self) -> Path:
        """Where a study keeps what each training says of each validation clip: ``<trial id>.parquet``."""
        return self.path / "clips"

    @property
    def best(self) -> Path:
        """The best configuration."""
        return self.path / "best.yaml"

    @property
    def report(self) -> Path:
        """The report for people."""
        return self.path / "report.md"

    def write_asked(self, asked: Asked) -> None:
        """Say what was asked."""
        plain = {entry.name: _plain(getattr(asked, entry.name)) for entry in fields(asked)}
        write_text(self.path / "asked.yaml", yaml_text.dump(plain))

    def asked(self) -> Asked:
        """What was asked."""
        path = self.path / "asked.yaml"
        try:
            return record_of(yaml_text.load(yaml_text.read(path, "it"), "it"), Asked)
        except ConfigError as error:
            raise RunError(f"{path} must say what the run asked; {error}") from error

    def write_trials(self, trials: Sequence[Trial]) -> None:
        """Write all trials so far, one row each."""
        _write_trials(self.path / "trials.parquet", trials)
        with storage_errors(self.newest):
            self.newest.unlink(missing_ok=True)

    def trials(self) -> list[Trial]:
        """All finished trials in the order they were asked for; none before the first one ended."""
        newest = _read_lines(self.newest)  # before the table, which may be written with them meanwhile
        gone = {name for trial in newest for name in (trial.id, *trial.instead_of)}
        last = {trial.id: trial for trial in newest}
        replaced = {name for trial in newest for name in trial.instead_of}
        kept = [trial for trial in _read(self.path / "trials.parquet") if trial.id not in gone]
        kept += [trial for trial in last.values() if trial.id not in replaced]
        return sorted(kept, key=lambda trial: trial.number)

    def write_earlier(self, trials: Sequence[Trial]) -> None:
        """Write the trials of earlier runs that a search begins with."""
        _write_trials(self.path / "earlier.parquet", trials)

    def earlier(self) -> list[Trial]:
        """The trials of earlier runs that a search began with."""
        return _read(self.path / "earlier.parquet")


RecordT = TypeVar("RecordT")


def record_of(plain: Any, kind: type[RecordT]) -> RecordT:
    """A record from the plain data of its file, every field of the type it has.

    Raises:
        ConfigError: they are those of something else.
    """
    try:
        kind(**plain)  # refuses what is no mapping, and fields that are missing or unknown
        record: RecordT = _adapter(kind).validate_python(plain)  # type: ignore[arg-type]  # a class is hashable
        return record
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)]
        raise ConfigError.of(faults) from error
    except TypeError as error:
        raise ConfigError(f"it holds something else: {shown(str(error), quoted=False)}") from error


@functools.cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Made once: a report reads the records of many runs."""
    return TypeAdapter(kind)


def find(name: str, root: Path = Path("runs")) -> RunFolder:
    """The folder of a run, by its name below ``root`` or by its path.

    Raises:
        RunError: there is no such run; the message names the nearest and the newest.
    """
    for path in (root / name, Path(os.path.expanduser(name))):
        if os.path.isfile(path / "asked.yaml"):  # which a name too long for a file is not
            return RunFolder(path)
    final = next((path for path in (root / name, Path(name)) if os.path.isfile(path / "metrics.json")), None)
    if final is not None:
        raise RunError(
            f"A search or a study has trials to choose from; {final} is a final training, whose results are in its "
            f"metrics.json. Go on with it: python cluster/launch.py --config {final}/config.yaml --name {final.name} "
            "--resume"
        )
    runs = sorted(path.parent.name for path in root.glob("*/asked.yaml"))
    there = f"There are: {', '.join(runs[-5:])}." if runs else "There are none yet; python tune/search.py makes one."
    near = did_you_mean(Path(name).name, runs)
    raise RunError(f"A run is named by its folder in {root}/; got {shown(name)}. {there}{near}")


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The trials that have a finite value of ``metric``, best first; not those that failed or break a constraint.

    The value is that of the last epoch: it is the one the kept checkpoint has, the one Optuna was told, and no minimum
    over many noisy epochs. A trial that was stopped early counts with what it reached.
    """
    sign = -1.0 if METRICS[metric].higher_is_better else 1.0
    usable = [trial for trial in trials if is_usable(trial) and math.isfinite(value(trial, metric))]
    return sorted(usable, key=lambda trial: (sign * value(trial, metric), trial.number))


def is_usable(trial: Trial) -> bool:
    """Whether a trial may be chosen: it did not fail, and keeps all constraints."""
    return trial.state != "failed" and trial.breaks is None


def value(trial: Trial, metric: str) -> float:
    """A metric of the trial's last epoch; not a number where it has none."""
    return trial.metrics.get(metric, math.nan)


def best_by(metric: str) -> str:
    """Return the rule of a choice by one metric alone, in words: "the lowest hand_error_mm"."""
    return f"the {'highest' if METRICS[metric].higher_is_better else 'lowest'} {metric}"


def best_text(asked: Asked, trial: Trial, metric: str, trials: int, rule: str = "") -> str:
    """``best.yaml``: the configuration of a trial, what it changes, and how it was found.

    Args:
        asked: the question of its run.
        trial: the chosen one.
        metric: it was selected by, first.
        trials: of the run.
        rule: by which it was picked from a front, in words; empty where the metric alone decided.
    """
    base = asked.config()
    config = override(base, trial.values)
    found_by = {
        "run": asked.name,
        "trial": trial.number,
        "metric": metric,
        "value": value(trial, metric),
        "unit": METRICS[metric].unit,
        "epoch": trial.epochs,
        "state": trial.state,
        "seed": asked.seed,
        "trials": trials,
        "commit": asked.commit,
    }
    found_by["rule"] = rule or best_by(metric)
    if rule:
        found_by["objectives"] = {name: value(trial, name) for name in asked.objectives}
    if asked.constraints:
        found_by["constraints"] = list(asked.constraints)
    plain = {"found_by": found_by, "changed": changed(config, base), "config": config.model_dump(mode="json")}
    return yaml_text.dump(plain)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    _write_bytes(path, text.encode("utf-8"))


def _write_trials(path: Path, trials: Sequence[Trial]) -> None:
    content = io.BytesIO()
    frame(trials).write_parquet(content)  # not to the file: polars does not say that a disk is full
    _write_bytes(path, content.getvalue())


def _write_bytes(path: Path, content: bytes) -> None:
    with storage_errors(path), _beside(path) as beside:
        Path(beside).write_bytes(content)


class _beside:  # noqa: N801 - used as a function
    """A file beside its place, moved there when the block ends well and removed when it does not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.beside = str(self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}"))
        return self.beside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.replace(self.beside, self.path)
        else:
            Path(self.beside).unlink(missing_ok=True)


def _read(path: Path) -> list[Trial]:
    if not path.exists():
        return []
    try:
        return trials_of(pl.read_parquet(path.read_bytes()))  # polars opens a path twice: a run may be writing
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} must hold the trials of a run; it cannot be read: {error}") from error


def _read_lines(path: Path) -> list[Trial]:
    """Return the trials of a file of lines; its last line may be cut short by a kill."""
    try:
        text = path.read_text(encoding="utf-8")
        return [of_line(each) for each in text[: text.rfind("\n") + 1].splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} must hold the newest trials of a run; it cannot be read: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
