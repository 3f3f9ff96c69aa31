"""Retraining of a configuration found by a run, with fresh seeds: its record, and the results of each seed.

``runs/<run>/retrain/`` holds

===================  ==================================================================================================
``retrain.yaml``     record: ``config``, how it was ``found_by`` the run, the seeds, and the seeds that failed
``seed-<n>/``        final training with this seed, see ``cluster/run_folder.py``
``report.md``        results of all seeds, beside those of the search; also ``report.html``
``retrain.csv``      line per split and metric: mean, deviation, interval
``seeds.csv``        line per seed, split and metric
===================  ==================================================================================================

It can be read without Ray and torch.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster import revision
from cluster.run_folder import BEGAN_FILE, CONFIG_FILE, METRICS_FILE, EpochLog, began
from htt import yaml_text
from htt.config import Config, Value, from_plain, override, plain_value
from htt.data.location import data_key
from htt.errors import ConfigError, RunError
from htt.evaluation.metric_table import METRICS
from tune.experiments import spec
from tune.experiments.study import MOST_SEEDS, SEED
from tune.results import run_folder, run_record
from tune.results.run_folder import RunFolder, Trial, write_text
from tune.results.stats import FEWEST
from tune.results.sync import Storage

NAME = "retrain"
RECORD_FILE = "retrain.yaml"
VALIDATION, TEST = "validation", "test"
SPLITS = {VALIDATION: "", TEST: "test_"}
"""{split: prefix of its metrics in a final evaluation}."""


@dataclass(frozen=True)
class Retrained:
    """Final trainings of one configuration that differ only in their seeds."""

    path: Path
    config: Config
    """Configuration to train; its own seed is that of the search."""
    found_by: Mapping[str, Any]
    """Origin of the configuration, as in the run's best.yaml: run, trial, metric, value, state, epoch, ..."""
    searched: Mapping[str, float]
    """Metrics of the run's trial on the validation split, at its last epoch."""
    seeds: Sequence[int]
    used_seeds: Sequence[int]
    """Seeds that the run trained with."""
    assignments: Mapping[str, Value] = field(default_factory=dict)
    """Changes by ``--set`` to the configuration that was found: {dotted path: value}."""
    failed: Mapping[int, str] = field(default_factory=dict)
    """{seed: error message}, until the seed is tried again."""
    failed_kinds: Mapping[int, str] = field(default_factory=dict)
    """{seed: class name of its error}."""
    command: str = ""
    commit: str = ""
    started: str = ""
    data: str | None = None
    """Key of its data (``htt.data.location.data_key``), or None for records of older versions."""
    codes: Sequence[str] = field(default_factory=list)
    """Identities of the code that trained it (``cluster.revision.identity``): at the start first, then at resumes."""
    found_code: str | None = None
    """Identity of the code that trained the run's trial, or None if unknown."""

    @property
    def metric(self) -> str:
        """Metric that the configuration was selected by."""
        return str(self.found_by["metric"])

    @property
    def left(self) -> list[int]:
        """Seeds that remain to be trained."""
        return [seed for seed in self.seeds if not self.final(seed)]

    @property
    def done(self) -> list[int]:
        """Seeds whose training is finished."""
        return [seed for seed in self.seeds if self.final(seed)]

    def folder(self, seed: int) -> Path:
        """Return the folder of the final training with a seed."""
        return self.path / f"seed-{seed}"

    def codes_of(self, seed: int) -> Sequence[str]:
        """Return the identities of the code that trained a seed; empty if unknown."""
        return list(began(self.folder(seed)).get("codes", ()))

    def config_of(self, seed: int) -> Config:
        """Return the configuration with a seed."""
        return override(self.config, {SEED: seed})

    def final(self, seed: int) -> Mapping[str, float]:
        """Return the final evaluation of a seed; empty until its training is finished.

        Raises:
            RunError: its metrics file cannot be read.
        """
        file = self.folder(seed) / METRICS_FILE
        try:
            return EpochLog(file).final
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{file} must hold the epochs of a final training; it cannot be read: {error}") from error

    @property
    def incomplete(self) -> list[str]:
        """Message for each split of the data with missing clips."""
        logs = [EpochLog(self.folder(seed) / METRICS_FILE) for seed in self.done]
        return list(dict.fromkeys(said for log in logs for said in log.incomplete))

    def values(self, split: str, metric: str) -> np.ndarray:
        """Return a metric of a split for the finished seeds [s]; NaN for a seed without it."""
        name = f"{SPLITS[split]}{metric}"
        return np.array([self.final(seed).get(name, math.nan) for seed in self.done], float)

    def metrics(self, split: str) -> list[str]:
        """Return the metrics evaluated on a split, the selection metric first."""
        known = {name for seed in self.done for name in self.final(seed)}
        names = [name for name in METRICS if f"{SPLITS[split]}{name}" in known]
        return sorted(names, key=lambda name: name != self.metric)

    def rows(self) -> Iterator[tuple[int, str, str, float]]:
        """Yield (seed, split, metric, value) for all finished seeds."""
        for split in SPLITS:
            for metric in self.metrics(split):
                for seed, number in zip(self.done, self.values(split, metric), strict=True):
                    yield seed, split, metric, float(number)

    def write(self) -> None:
        """Write the record atomically."""
        plain = {entry.name: plain_value(getattr(self, entry.name)) for entry in fields(self) if entry.name != "path"}
        write_text(self.path / RECORD_FILE, yaml_text.dump(plain))


def read(path: Path) -> Retrained:
    """Read the retraining in a folder.

    Raises:
        RunError: its record is missing or invalid.
    """
    file = path / RECORD_FILE
    try:
        plain = yaml_text.load(yaml_text.read(file, "it"), "it")
        return run_folder.record_of({**plain, "path": path, "config": from_plain(plain["config"])}, Retrained)
    except (TypeError, KeyError, ConfigError) as error:
        raise RunError(f"{file} must say what was trained again; it cannot be read: {error}") from error


def ask(
    run: RunFolder,
    trial: Trial,
    metric: str,
    count: int,
    *,
    name: str = NAME,
    rule: str = "",
    assignments: Mapping[str, Value] | None = None,
    command: str = "",
    share_any: bool = False,
) -> Retrained:
    """Plan the retraining of a trial's configuration with fresh seeds, or continue the one in its folder.

    Args:
        run: folder of the run that found the trial.
        trial: trial whose configuration is trained.
        metric: metric that selected the trial.
        count: total number of seeds.
        name: name of the folder inside the run's folder.
        rule: rule of the pick from a Pareto front, in words.
        assignments: changes to the configuration: {dotted path: value}.
        command: command line, for the record.
        share_any: allow seeds trained by other versions of the code.

    Raises:
        ConfigError: the number of seeds, the name or the configuration is invalid.
        DataError: there are no data.
        RunError: the folder holds something else, or the data or the code differ from those of earlier seeds.
    """
    asked, trials, values = run.asked(), run.trials(), dict(assignments or {})
    _check_options(count, values, name)
    used = sorted({int(str(each.values.get(SEED, asked.config().train.seed))) for each in trials})
    record = run_record.record_of(spec.Run(command=command), asked.config(), asked.name)
    found_by = yaml_text.load(run_folder.best_text(asked, trial, metric, len(trials), rule), "it")["found_by"]
    found = override(asked.config(), trial.values)
    wanted = Retrained(
        path=run.path / name,
        config=override(found, values),
        found_by=found_by,
        searched={key: number for key, number in trial.metrics.items() if key in METRICS},
        seeds=fresh_seeds(count, used),
        used_seeds=used,
        assignments=values,
        command=str(record["command"]),
        commit=str(record["commit"]),
        started=str(record["started"]),
        codes=record["codes"],
        found_code=trial.code,
    )
    before = _check_place(wanted)
    went_on = wanted if before is None else _gone_on(before, wanted, count)
    if not went_on.left:
        return went_on
    known = {f"trial {trial.id} was": trial.data} if found.data == wanted.config.data else {}
    if before is not None:
        known["seeds were"] = before.data
        revision.check_same(str(wanted.path), before.codes, before.commit, share_any=share_any)
        went_on = replace(went_on, codes=_codes(before.codes, wanted.codes))
    return replace(went_on, data=_same_data(went_on, known))


def _check_options(count: int, values: Mapping[str, Value], name: str) -> None:
    """Raise a ``ConfigError`` for an invalid number of seeds, assignment or name."""
    if count < FEWEST:
        raise ConfigError(f"--retrain-seeds must be {FEWEST} or more: one seed has no interval; got {count}.")
    if count > MOST_SEEDS:
        raise ConfigError(f"--retrain-seeds must be {MOST_SEEDS} or less; got {count}.")
    if SEED in values:
        raise ConfigError(f"--set must leave {SEED} to --retrain-seeds; got {SEED}={values[SEED]}.")
    spec.check_run(spec.Run(name=name))


def _codes(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the identities of the code of earlier seeds and of the current code, each once."""
    return list(dict.fromkeys((*(before or [revision.UNKNOWN]), *now)))


def _same_data(wanted: Retrained, known: Mapping[str, str | None]) -> str:
    """Return the key of the data, after checking that earlier trainings used the same data.

    Args:
        wanted: the retraining.
        known: {earlier training, in words such as "seeds were": key of its data, or None if unknown}.

    Raises:
        DataError: there are no data.
        RunError: an earlier training used other data.
    """
    now = data_key(wanted.config)
    for what, before in known.items():
        if before not in (None, now):
            raise RunError(
                f"Cannot train {wanted.path} on other data: {what} trained on {before}, and what the configuration "
                f"names is now {now}. Put the first data back, or begin a new search."
            )
    return now


def fetch(place: Storage) -> None:
    """Update the local files of a retraining from its bucket; see ``Storage.refresh``."""
    if place.remote:
        place.refresh(*_names(place))


def pull(place: Storage) -> None:
    """Update the local files from the bucket, for the process that holds the lock; see ``Storage.pull``."""
    if place.remote:
        place.pull(*_names(place))


def _names(place: Storage) -> list[str]:
    """Return the names of the small files of a retraining in a bucket."""
    seeds = [name for name in place.folders("") if re.fullmatch(r"seed-\d+", name)]
    return [RECORD_FILE, *(f"{seed}/{file}" for seed in seeds for file in (BEGAN_FILE, CONFIG_FILE, METRICS_FILE))]


def fresh_seeds(count: int, used: Collection[int], before: Sequence[int] = ()) -> list[int]:
    """Return ``before`` and the lowest seeds that are neither in it nor in ``used``, at least ``count`` in total.

    >>> fresh_seeds(3, {0, 2})
    [1, 3, 4]
    """
    free = (seed for seed in itertools.count() if seed not in used and seed not in before)
    return [*before, *itertools.islice(free, max(0, count - len(before)))]


def _gone_on(before: Retrained, wanted: Retrained, count: int) -> Retrained:
    """Return the earlier retraining with ``count`` seeds; all finished seeds are kept."""
    kept = [seed for place, seed in enumerate(before.seeds) if place < count or before.final(seed)]
    seeds = fresh_seeds(count, wanted.used_seeds, kept)
    return replace(
        before, seeds=seeds, found_by=wanted.found_by, used_seeds=wanted.used_seeds, found_code=wanted.found_code
    )


def _check_place(wanted: Retrained) -> Retrained | None:
    """Return the earlier retraining of this configuration in the folder, or None.

    Raises:
        RunError: the folder holds something else, or the retraining of another configuration.
    """
    path = wanted.path
    if not (path / RECORD_FILE).exists():
        if path.exists() and any(not one.name.startswith(".") for one in path.iterdir()):
            raise RunError(
                f"A retraining needs a folder of its own; {path} holds something else. Choose another --name."
            )
        return None
    before = read(path)
    if before.config.fingerprint() != wanted.config.fingerprint():
        raise RunError(
            f"A retraining's folder holds one configuration; {path} is of trial {before.found_by['trial']}"
            f"{_with(before.assignments)}, and trial {wanted.found_by['trial']}{_with(wanted.assignments)} is asked "
            "for now. Choose another --name."
        )
    return before


def _with(assignments: Mapping[str, Value]) -> str:
    listed = ", ".join(f"{path}={value}" for path, value in assignments.items())
    return f" with {listed}" if listed else ""
