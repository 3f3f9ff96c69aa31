"""What a run leaves behind, readable on any laptop: neither Ray nor torch is needed here.

``runs/<name>/`` holds

=====================  ================================================================================================
``asked.yaml``         what was asked: command, space, base configuration, metric, seed, budget, commit, versions
``earlier.parquet``    of a search with ``--warm-start``: the trials of earlier runs it began with, as rows of its own
``trials.parquet``     one row a trial: state, epochs, seconds, each metric (last epoch and best), each searched path
``epochs.jsonl``       every epoch of every trial, the moment it ended
``best.yaml``          the best configuration: ``config``, ``changed`` (against the base) and ``found_by``
``report.md``          the same for people, with a picture
``optuna.journal``     a search's study, for ``optuna-dashboard``
``clips/``             of a study: what each training says of each validation clip, at its last epoch
=====================  ================================================================================================

Every file appears whole or not at all: it is written beside its place and moved there.
"""

from __future__ import annotations

import io
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
from tune.rows import STATES, Trial, frame, trials_of

__all__ = [
    "STATES",
    "Asked",
    "RunFolder",
    "Trial",
    "best_text",
    "check_metric",
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
    """As ``tune.constraints.parse`` takes them."""
    pick: str = "knee"
    """The rule by which one trial is picked from a front: see ``tune.front``."""
    warm_start: Sequence[str] = field(default_factory=list)
    """The runs whose trials it began with."""
    points: Sequence[Mapping[str, Value]] = field(default_factory=list)
    """Samples that were tried first."""
    kind: str = "search"
    """Or "study"; then space, domains, algorithm and scheduler say nothing."""
    study_name: str = ""
    """The module of tune/studies."""
    study: Mapping[str, Any] = field(default_factory=dict)
    """The study as plain data: ``tune.study.Study.from_plain`` gives it back."""
    parameters: Mapping[str, int] = field(default_factory=dict)
    """{variant: numbers its model learns}."""
    first_seeds: int = 0
    """How many seeds a study began with; 0: not written down."""
    later_commits: Sequence[str] = field(default_factory=list)
    """Of the code it was gone on with, where that was another."""

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
        _write_trials(self.path / "trials.parquet", trials)

    def trials(self) -> list[Trial]:
        """All finished trials in the order they were asked for; none before the first one ended."""
        return sorted(_read(self.path / "trials.parquet"), key=lambda trial: trial.number)

    def write_earlier(self, trials: Sequence[Trial]) -> None:
        """Write the trials of earlier runs that a search begins with."""
        _write_trials(self.path / "earlier.parquet", trials)

    def earlier(self) -> list[Trial]:
        """The trials of earlier runs that a search began with."""
        return _read(self.path / "earlier.parquet")


def find(name: str, root: Path = Path("runs")) -> RunFolder:
    """The folder of a run, by its name below ``root`` or by its path.

    Raises:
        RunError: there is no such run; the message names the nearest and the newest.
    """
    for path in (root / name, Path(name)):
        if (path / "asked.yaml").is_file():
            return RunFolder(path)
    final = next((path for path in (root / name, Path(name)) if (path / "metrics.json").is_file()), None)
    if final is not None:
        raise RunError(
            f"A search or a study has trials to choose from; {final} is a final training, whose results are in its "
            f"metrics.json. Go on with it: python cluster/launch.py --config {final}/config.yaml --name {final.name} "
            "--resume"
        )
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


def best_text(asked: Asked, trial: Trial, metric: str, trials: int, rule: str = "") -> str:
    """``best.yaml``: the configuration of a trial, what it changes, and how it was found.

    Args:
        asked: the question of its run.
        trial: the chosen one.
        metric: it was selected by, first.
        trials: of the run.
        rule: by which it was picked from a front, in words.
    """
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
    if rule:
        found_by |= {"rule": rule, "objectives": {name: value(trial, name) for name in asked.objectives}}
    if asked.constraints:
        found_by["constraints"] = list(asked.constraints)
    plain = {"found_by": found_by, "changed": changed(config, base), "config": config.model_dump(mode="json")}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


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
        handle, self.beside = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        os.close(handle)
        return self.beside

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.chmod(self.beside, 0o644)
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


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return dict(value) if isinstance(value, Mapping) else value
