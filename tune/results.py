"""What a run leaves behind, readable on any laptop: neither Ray nor torch is needed here.

``runs/<name>/`` holds

=====================  ================================================================================================
``asked.yaml``         what was asked: command, space, base configuration, metric, seed, budget, commit, versions
``trials.parquet``     one row a trial: state, epochs, seconds, each metric (last epoch and best), each searched path
``best.yaml``          the best configuration: ``config``, ``changed`` (against the base) and ``found_by``
``report.md``          the same for people, with a picture
``optuna.journal``     the study, for ``optuna-dashboard``
=====================  ================================================================================================

Every file appears whole or not at all: it is written beside its place and moved there.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from htt.config import Config, Value, changed, from_plain, override
from htt.errors import ConfigError, RunError, did_you_mean, storage_errors
from htt.training.metric_table import METRICS

STATES = ("complete", "pruned", "failed", "stopped")
"""All epochs trained; stopped by the scheduler; crashed or not finite; cut short by Ctrl-C or the time budget."""

_FIXED: dict[str, Any] = {
    "id": pl.String,
    "number": pl.Int64,
    "fingerprint": pl.String,
    "state": pl.String,
    "epochs": pl.Int64,
    "seconds": pl.Float64,
    "finished_s": pl.Float64,
    "error": pl.String,
    "values": pl.String,
    "curve": pl.List(pl.Float64),
}


@dataclass(frozen=True)
class Trial:
    """One configuration, trained, and what came of it."""

    id: str
    number: int
    """1 for the first trial that was asked for."""
    fingerprint: str
    """Equal for equal configurations; see ``htt.config.Config.fingerprint``."""
    state: str
    epochs: int
    """Epochs that were trained."""
    seconds: float
    """Time it took, s, on all its machines' clocks."""
    finished_s: float
    """When it ended, s after the search began."""
    values: Mapping[str, Value]
    """What the search chose: {dotted path: value}."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of its last epoch."""
    best: Mapping[str, float] = field(default_factory=dict)
    """The best of its epochs, for each metric alone."""
    curve: Sequence[float] = ()
    """The metric the search selects by, epoch by epoch."""
    error: str | None = None


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
    gpus_per_trial: float
    storage: str
    started: str
    commit: str
    versions: Mapping[str, str]

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
        write_text(self.path / "asked.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    def asked(self) -> Asked:
        """What was asked."""
        path = self.path / "asked.yaml"
        try:
            return Asked(**yaml.safe_load(path.read_text(encoding="utf-8")))
        except (OSError, TypeError, yaml.YAMLError) as error:
            raise RunError(f"{path} must say what the run asked; it cannot be read: {error}") from error

    def write_trials(self, trials: Sequence[Trial]) -> None:
        """Write all trials so far, one row each."""
        path = self.path / "trials.parquet"
        with storage_errors(path), _beside(path) as beside:
            _frame(trials).write_parquet(beside)

    def trials(self) -> list[Trial]:
        """All finished trials in the order they were asked for; none before the first one ended."""
        path = self.path / "trials.parquet"
        if not path.exists():
            return []
        try:
            rows = pl.read_parquet(path).to_dicts()
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RunError(f"{path} must hold the trials of a run; it cannot be read: {error}") from error
        return sorted((_trial(row) for row in rows), key=lambda trial: trial.number)


def find(name: str, root: Path = Path("runs")) -> RunFolder:
    """The folder of a run, by its name below ``root`` or by its path.

    Raises:
        RunError: there is no such run; the message names the nearest and the newest.
    """
    for path in (root / name, Path(name)):
        if (path / "asked.yaml").is_file():
            return RunFolder(path)
    runs = sorted(path.parent.name for path in root.glob("*/asked.yaml"))
    there = f"There are: {', '.join(runs[-5:])}." if runs else "There are none yet; python tune/search.py makes one."
    near = did_you_mean(Path(name).name, runs)
    raise RunError(f"A run is named by its folder in {root}/; got '{name}'. {there}{near}")


def check_metric(name: str, known: Sequence[str] | None = None) -> None:
    """Raise a ``ConfigError`` unless ``name`` is a metric, or one of those a run recorded."""
    names = list(METRICS) if known is None else list(known)
    if name not in names:
        raise ConfigError(
            f"The metric must be one that training reports; got '{name}'. "
            f"There are: {', '.join(names)}.{did_you_mean(name, names)}"
        )


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """The trials that have a finite value of ``metric``, best first, failed ones left out.

    The value is that of the last epoch: it is the one the kept checkpoint has, the one Optuna was told, and no minimum
    over many noisy epochs. A trial that was stopped early counts with what it reached.
    """
    sign = -1.0 if METRICS[metric].higher_is_better else 1.0
    usable = [trial for trial in trials if trial.state != "failed" and math.isfinite(value(trial, metric))]
    return sorted(usable, key=lambda trial: (sign * value(trial, metric), trial.number))


def value(trial: Trial, metric: str) -> float:
    """A metric of the trial's last epoch; not a number where it has none."""
    return trial.metrics.get(metric, math.nan)


def best_text(asked: Asked, trial: Trial, metric: str, trials: int) -> str:
    """``best.yaml``: the configuration of a trial, what it changes, and how it was found."""
    base = asked.config()
    config = override(base, trial.values)
    found_by = {
        "run": asked.name,
        "trial": trial.id,
        "metric": metric,
        "value": value(trial, metric),
        "unit": METRICS[metric].unit,
        "epoch": trial.epochs,
        "state": trial.state,
        "seed": asked.seed,
        "trials": trials,
        "commit": asked.commit,
    }
    plain = {"found_by": found_by, "changed": changed(config, base), "config": config.model_dump(mode="json")}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with storage_errors(path), _beside(path) as beside:
        Path(beside).write_text(text, encoding="utf-8")


class _beside:  # noqa: N801 - used as a function
    """A file beside its place, moved there when the block ends well and removed when it does not."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> str:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, self.beside = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        return self.beside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.chmod(self.beside, 0o644)
            os.replace(self.beside, self.path)
        else:
            Path(self.beside).unlink(missing_ok=True)


def _frame(trials: Sequence[Trial]) -> pl.DataFrame:
    names = list(dict.fromkeys(name for trial in trials for name in (*trial.metrics, *trial.best)))
    paths = list(dict.fromkeys(path for trial in trials for path in trial.values))
    columns = {name: pl.Series(name, [_fixed(trial, name) for trial in trials], kind) for name, kind in _FIXED.items()}
    for name in names:
        columns[name] = _numbers(name, [trial.metrics.get(name) for trial in trials])
        columns[f"best_{name}"] = _numbers(f"best_{name}", [trial.best.get(name) for trial in trials])
    for path in paths:
        columns[path] = _column(path, [trial.values.get(path) for trial in trials])
    return pl.DataFrame(list(columns.values()))


def _fixed(trial: Trial, name: str) -> Any:
    if name == "values":
        return json.dumps(dict(trial.values))
    return list(trial.curve) if name == "curve" else getattr(trial, name)


def _numbers(name: str, values: list[float | None]) -> pl.Series:
    return pl.Series(name, [None if value is None else float(value) for value in values], pl.Float64)


def _column(name: str, values: list[Value]) -> pl.Series:
    """A searched path as a column: of its own type where all values share one, else as JSON text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and float in kinds:
        return _numbers(name, values)
    if len(kinds) <= 1 and kinds <= {int, bool, str}:
        return pl.Series(name, values)
    return pl.Series(name, [None if value is None else json.dumps(value) for value in values])


def _trial(row: dict[str, Any]) -> Trial:
    names = [name.removeprefix("best_") for name in row if name.startswith("best_")]
    fixed = {name: row[name] for name in _FIXED}
    fixed["values"] = json.loads(fixed["values"])
    fixed["curve"] = tuple(fixed["curve"] or ())
    metrics = {name: row[name] for name in names if row[name] is not None}
    best = {name: row[f"best_{name}"] for name in names if row[f"best_{name}"] is not None}
    return Trial(**fixed, metrics=metrics, best=best)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value
