"""Run folder: the files of a search or study, readable without Ray and torch.

``runs/<name>/`` holds

=====================  ================================================================================================
``asked.yaml``         record of the run: command, space, base configuration, metric, seed, budget, commit, versions
``earlier.parquet``    search with ``--warm-start``: the trials of earlier runs it started with, one row each
``trials.parquet``     one row per trial: state, epochs, seconds, each metric (last epoch and best), each searched path
``trials.jsonl``       during a run: rows that are not in ``trials.parquet`` yet, at most one in sixteen
``epochs.jsonl``       every epoch of every trial, written when it ends
``best.yaml``          the best configuration: ``config``, ``changed`` (relative to the base) and ``found_by``
``report.md``          report with the results and a figure
``optuna.journal``     search: its Optuna study, for ``optuna-dashboard``
``clips/``             study: results of each trial on each validation clip, at its last epoch
=====================  ================================================================================================

The record, the tables of trials, ``best.yaml`` and the reports are replaced atomically: each is written to a temporary
file and renamed.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pydantic import TypeAdapter, ValidationError

from htt import yaml_text
from htt.config import Config, Value, changed, from_plain, override, plain_value
from htt.errors import ConfigError, RunError, did_you_mean, shown, storage_errors
from htt.evaluation.metric_table import METRICS
from htt.files import write_bytes, write_text
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
    """Record of a run, complete enough to repeat it."""

    name: str
    command: str
    space: str
    domains: Mapping[str, str]
    base: Mapping[str, Any]
    """Base configuration of the trials, as nested plain data."""
    metric: str
    seed: int
    trials: int
    time_budget_s: float | None
    algorithm: str
    scheduler: str
    assignments: Mapping[str, Value]
    """Values fixed by ``--set``: {dotted path: value}."""
    workers_per_trial: int
    cpus_per_worker: float
    gpus_per_trial: float | None
    """GPUs of a trial, or None for one per process if the machines had any."""
    storage: str
    started: str
    commit: str
    versions: Mapping[str, str]
    objectives: Sequence[str] = field(default_factory=list)
    """Objectives, ``metric`` first, of a search with several; otherwise empty."""
    constraints: Sequence[str] = field(default_factory=list)
    """Constraints, in the form that ``tune.experiments.constraints.parse`` reads."""
    pick: str = "knee"
    """Rule that picks one trial from the Pareto front; see ``tune.results.selection``."""
    warm_start: Sequence[str] = field(default_factory=list)
    """Runs whose trials the search started with."""
    points: Sequence[Mapping[str, Value]] = field(default_factory=list)
    """Initial points: samples that were tried first."""
    kind: str = "search"
    """"search" or "study"; a study does not use space, domains, algorithm and scheduler."""
    study_name: str = ""
    """Name of the module in ``tune/experiments/studies``."""
    study: Mapping[str, Any] = field(default_factory=dict)
    """Study as plain data, for ``tune.experiments.study.Study.from_plain``."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """{variant: number of trainable parameters}."""
    first_seeds: int = 0
    """Number of seeds a study started with, or 0 if not recorded."""
    choices: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """{path: values in order} of the domains of type ``Choice``."""
    later_commits: Sequence[str] = field(default_factory=list)
    """Commits that the run was resumed with, other than ``commit``."""
    incomplete: Sequence[str] = field(default_factory=list)
    """Message for each split of the data with missing clips."""
    data: Sequence[str] = field(default_factory=list)
    """Key of each data set (``htt.data.location.data_key``); empty for runs of older versions."""
    codes: Sequence[str] = field(default_factory=list)
    """Identities of the code that trained it (``cluster.revision.identity``): at the start first, then at resumes."""

    def config(self) -> Config:
        """Return the base configuration."""
        return from_plain(self.base)


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """File of the Optuna study, for ``optuna-dashboard``."""
        return self.path / "optuna.journal"

    @property
    def newest(self) -> Path:
        """File of the trials that ended since ``trials.parquet`` was written, as lines of JSON."""
        return self.path / "trials.jsonl"

    @property
    def epochs(self) -> Path:
        """File of the metrics of each epoch of each trial, as lines of JSON."""
        return self.path / "epochs.jsonl"

    @property
    def clips(self) -> Path:
        """Folder of a study's results per validation clip: ``<trial id>.parquet``."""
        return self.path / "clips"

    @property
    def best(self) -> Path:
        """File of the best configuration."""
        return self.path / "best.yaml"

    @property
    def report(self) -> Path:
        """File of the report."""
        return self.path / "report.md"

    def write_asked(self, asked: Asked) -> None:
        """Write the record of the run."""
        plain = {entry.name: plain_value(getattr(asked, entry.name)) for entry in fields(asked)}
        write_text(self.path / "asked.yaml", yaml_text.dump(plain))

    def asked(self) -> Asked:
        """Read the record of the run.

        Raises:
            RunError: the file is missing or invalid.
        """
        path = self.path / "asked.yaml"
        try:
            return record_of(yaml_text.load(yaml_text.read(path, "it"), "it"), Asked)
        except ConfigError as error:
            raise RunError(f"{path} must say what the run asked; {error}") from error

    def write_trials(self, trials: Sequence[Trial]) -> None:
        """Write all trials so far to ``trials.parquet``, and remove ``trials.jsonl``."""
        _write_trials(self.path / "trials.parquet", trials)
        with storage_errors(self.newest):
            self.newest.unlink(missing_ok=True)

    def trials(self) -> list[Trial]:
        """Return all finished trials in order of their numbers; empty before the first one ended."""
        newest = _read_lines(self.newest)  # before the table, which may take them in meanwhile
        gone = {name for trial in newest for name in (trial.id, *trial.instead_of)}
        last = {trial.id: trial for trial in newest}
        replaced = {name for trial in newest for name in trial.instead_of}
        kept = [trial for trial in _read(self.path / "trials.parquet") if trial.id not in gone]
        kept += [trial for trial in last.values() if trial.id not in replaced]
        return sorted(kept, key=lambda trial: trial.number)

    def write_earlier(self, trials: Sequence[Trial]) -> None:
        """Write the trials of earlier runs that a search starts with."""
        _write_trials(self.path / "earlier.parquet", trials)

    def earlier(self) -> list[Trial]:
        """Return the trials of earlier runs that the search started with."""
        return _read(self.path / "earlier.parquet")


RecordT = TypeVar("RecordT")


def record_of(plain: Any, kind: type[RecordT]) -> RecordT:
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


def find(name: str, root: Path = Path("runs")) -> RunFolder:
    """Return the folder of a run, given its name in ``root`` or its path.

    Raises:
        RunError: no such run; the message lists similar names and the last five. Or it is a final training.
    """
    for path in (root / name, Path(os.path.expanduser(name))):
        if os.path.isfile(path / "asked.yaml"):  # False for a name that is too long for a file
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
    """Return the usable trials that have a finite value of ``metric``, best first.

    Trials that failed or violate a constraint are left out. The value is that of the last epoch, which belongs to the
    kept checkpoint and was reported to Optuna; the best of many noisy epochs would be too optimistic. A trial that was
    stopped early counts with its last value.
    """
    sign = -1.0 if METRICS[metric].higher_is_better else 1.0
    usable = [trial for trial in trials if is_usable(trial) and math.isfinite(value(trial, metric))]
    return sorted(usable, key=lambda trial: (sign * value(trial, metric), trial.number))


def is_usable(trial: Trial) -> bool:
    """Return whether a trial may be selected: it did not fail and satisfies all constraints."""
    return trial.state != "failed" and trial.breaks is None


def value(trial: Trial, metric: str) -> float:
    """Return a metric of the trial's last epoch, or NaN if it has none."""
    return trial.metrics.get(metric, math.nan)


def best_by(metric: str) -> str:
    """Return the rule of a selection by one metric, in words: "the lowest hand_error_mm"."""
    return f"the {'highest' if METRICS[metric].higher_is_better else 'lowest'} {metric}"


def best_text(asked: Asked, trial: Trial, metric: str, trials: int, rule: str = "") -> str:
    """Return the text of ``best.yaml``: configuration of a trial, its changes, and how it was found.

    Args:
        asked: record of the run.
        trial: selected trial.
        metric: metric that selected it, or the first of several.
        trials: number of trials of the run.
        rule: rule of the pick from a Pareto front, in words; empty if the metric alone decided.
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


def _write_trials(path: Path, trials: Sequence[Trial]) -> None:
    content = io.BytesIO()
    frame(trials).write_parquet(content)  # to memory first: polars does not report a full disk
    write_bytes(path, content.getvalue())


def _read(path: Path) -> list[Trial]:
    if not path.exists():
        return []
    try:
        return trials_of(pl.read_parquet(path.read_bytes()))  # polars opens a path twice; a run may write in between
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunError(f"{path} must hold the trials of a run; it cannot be read: {error}") from error


def _read_lines(path: Path) -> list[Trial]:
    """Return the trials of a file of lines; ignore a last line that a kill cut short."""
    try:
        text = path.read_text(encoding="utf-8")
        return [of_line(each) for each in text[: text.rfind("\n") + 1].splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path} must hold the newest trials of a run; it cannot be read: {error}") from error
