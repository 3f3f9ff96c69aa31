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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cluster import revision
from cluster.run_folder import CONFIG_FILE, METRICS_FILE, ORIGIN_FILE, EpochLog, read_origin
from htt import yaml_text
from htt.config import Config, Value, from_plain, override
from htt.data.location import data_key
from htt.errors import ConfigError, RunError
from htt.evaluation.metric_table import METRICS
from htt.files import write_text
from tune.experiments import checks, spec
from tune.experiments.study import MOST_SEEDS, SEED
from tune.results import run_record, selection
from tune.results.run_folder import RunFolder, Trial
from tune.results.stats import FEWEST
from tune.results.sync import Storage

NAME = "retrain"
RECORD_FILE = "retrain.yaml"
VALIDATION, TEST = "validation", "test"
SPLITS = {VALIDATION: "", TEST: "test_"}
"""{split: prefix of its metrics in a final evaluation}."""


@dataclass(frozen=True)
class Retraining:
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
    def finals(self) -> dict[int, Mapping[str, float]]:
        """{seed: final evaluation} of the seeds whose training is finished.

        Raises:
            RunError: a metrics file cannot be read.
        """
        return {seed: log.final for seed in self.seeds if (log := self._log(seed)).final}

    @property
    def done(self) -> list[int]:
        """Seeds whose training is finished."""
        return list(self.finals)

    @property
    def left(self) -> list[int]:
        """Seeds that remain to be trained."""
        finals = self.finals
        return [seed for seed in self.seeds if seed not in finals]

    @property
    def incomplete(self) -> list[str]:
        """Message for each split of the data with missing clips."""
        return list(dict.fromkeys(message for seed in self.done for message in self._log(seed).incomplete))

    def folder(self, seed: int) -> Path:
        """Return the folder of the final training with a seed."""
        return self.path / f"seed-{seed}"

    def codes_of(self, seed: int) -> Sequence[str]:
        """Return the identities of the code that trained a seed; empty if unknown."""
        return list(read_origin(self.folder(seed)).get("codes", ()))

    def config_of(self, seed: int) -> Config:
        """Return the configuration with a seed."""
        return override(self.config, {SEED: seed})

    def values(self, split: str, metric: str) -> np.ndarray:
        """Return a metric of a split for the finished seeds [s]; NaN for a seed without it."""
        name = f"{SPLITS[split]}{metric}"
        return np.array([final.get(name, math.nan) for final in self.finals.values()], float)

    def metrics(self, split: str) -> list[str]:
        """Return the metrics evaluated on a split, the selection metric first."""
        known = {name for final in self.finals.values() for name in final}
        names = [name for name in METRICS if f"{SPLITS[split]}{name}" in known]
        return sorted(names, key=lambda name: name != self.metric)

    def rows(self) -> Iterator[tuple[int, str, str, float]]:
        """Yield (seed, split, metric, value) for all finished seeds."""
        for split in SPLITS:
            for metric in self.metrics(split):
                for seed, number in zip(self.done, self.values(split, metric), strict=True):
                    yield seed, split, metric, float(number)

    def _log(self, seed: int) -> EpochLog:
        return EpochLog(self.folder(seed) / METRICS_FILE)

    def write(self) -> None:
        """Write the record atomically."""
        plain = {**vars(self), "config": self.config.model_dump(mode="json")}
        del plain["path"]
        write_text(self.path / RECORD_FILE, yaml_text.dump(plain))


def read(path: Path) -> Retraining:
    """Read the retraining in a folder.

    Raises:
        RunError: its record is missing or invalid.
    """
    file = path / RECORD_FILE
    try:
        plain = yaml_text.load(yaml_text.read(file, "it"), "it")
        return run_record.checked({**plain, "path": path, "config": from_plain(plain["config"])}, Retraining)
    except (TypeError, KeyError, ConfigError) as error:
        raise RunError(f"Cannot read {file}, the record of a retraining: {error}") from error


def plan(
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
) -> Retraining:
    """Plan the retraining of a trial's configuration with fresh seeds, or continue the one in its folder.

    Args:
        run: folder of the run that found the trial.
        trial: trial whose configuration is trained.
        metric: metric that selected the trial.
        count: total number of seeds.
        name: name of the folder inside the run's folder.
        rule: rule that selected the trial from a Pareto front, in words.
        assignments: changes to the configuration: {dotted path: value}.
        command: command line, for the record.
        share_any: allow seeds trained by other versions of the code.

    Raises:
        ConfigError: the number of seeds, the name or the configuration is invalid.
        DataError: there are no data.
        RunError: the folder holds something else, or the data or the code differ from those of earlier seeds.
    """
    record, trials, changes = run.record, run.trials(), dict(assignments or {})
    _check_options(count, changes, name)
    used = _used_seeds(run)
    written = run_record.provenance(command)
    found = override(record.config(), trial.values)
    new = Retraining(
        path=run.path / name,
        config=override(found, changes),
        found_by=selection.found_by(record, trial, metric, len(trials), rule),
        searched={key: number for key, number in trial.metrics.items() if key in METRICS},
        seeds=fresh_seeds(count, used),
        used_seeds=used,
        assignments=changes,
        command=str(written["command"]),
        commit=str(written["commit"]),
        started=str(written["started"]),
        codes=written["codes"],
        found_code=trial.code,
    )
    before = _earlier(new)
    planned = new if before is None else _continued(before, new, count)
    if not planned.left:
        return planned
    trained = {f"trial {trial.id} was": trial.data} if found.data == new.config.data else {}
    if before is not None:
        trained["seeds were"] = before.data
        revision.check_same(str(new.path), before.codes, before.commit, share_any=share_any)
        codes = list(dict.fromkeys((*(before.codes or [revision.UNKNOWN]), *new.codes)))
        planned = replace(planned, codes=codes)
    return replace(planned, data=_checked_data(planned, trained))


def fetch(place: Storage, *, locked: bool = False) -> None:
    """Update the small local files of a retraining from its bucket.

    Args:
        place: folder of the retraining and its mirror.
        locked: True if this process holds the lock; otherwise nothing is done while another process works on it.
    """
    if place.remote:
        seeds = [name for name in place.folders("") if re.fullmatch(r"seed-\d+", name)]
        names = [f"{seed}/{file}" for seed in seeds for file in (ORIGIN_FILE, CONFIG_FILE, METRICS_FILE)]
        (place.pull if locked else place.refresh)(RECORD_FILE, *names)


def fresh_seeds(count: int, used: Collection[int], before: Sequence[int] = ()) -> list[int]:
    """Return ``before`` and the lowest seeds that are neither in it nor in ``used``, at least ``count`` in total.

    >>> fresh_seeds(3, {0, 2})
    [1, 3, 4]
    """
    free = (seed for seed in itertools.count() if seed not in used and seed not in before)
    return [*before, *itertools.islice(free, max(0, count - len(before)))]


def _used_seeds(run: RunFolder) -> list[int]:
    """Return the seeds that a run trained with, and those of runs in its folder, such as its finalists."""
    usual = run.record.config().train.seed
    own = {int(str(each.values.get(SEED, usual))) for each in run.trials()}
    inner = [RunFolder(table.parent) for table in run.path.glob("*/trials.parquet")]
    return sorted(own | {each.seed for folder in inner for each in folder.trials() if each.seed is not None})


def _check_options(count: int, assignments: Mapping[str, Value], name: str) -> None:
    """Raise a ``ConfigError`` for an invalid number of seeds, assignment or name."""
    if not FEWEST <= count <= MOST_SEEDS:
        raise ConfigError(
            f"Invalid --retrain-seeds {count}: expected {FEWEST} to {MOST_SEEDS}, since one seed has no interval."
        )
    if SEED in assignments:
        raise ConfigError(f"Cannot --set {SEED}={assignments[SEED]}: seeds are given by --retrain-seeds.")
    checks.check_run(spec.RunOptions(name=name))


def _checked_data(planned: Retraining, trained: Mapping[str, str | None]) -> str:
    """Return the key of the data; raise a ``RunError`` if an earlier training used other data.

    ``trained`` is {earlier training, in words such as "seeds were": key of its data, or None if unknown}.
    """
    now = data_key(planned.config)
    for words, before in trained.items():
        if before not in (None, now):
            raise RunError(
                f"Cannot train {planned.path} on other data: {words} trained on {before}, and the configuration's data "
                f"are now {now}. Restore the first data, or start a new search."
            )
    return now


def _continued(before: Retraining, new: Retraining, count: int) -> Retraining:
    """Return the earlier retraining with ``count`` seeds; all finished seeds are kept."""
    finals = before.finals
    kept = [seed for place, seed in enumerate(before.seeds) if place < count or seed in finals]
    seeds = fresh_seeds(count, new.used_seeds, kept)
    return replace(before, seeds=seeds, found_by=new.found_by, used_seeds=new.used_seeds, found_code=new.found_code)


def _earlier(new: Retraining) -> Retraining | None:
    """Return the earlier retraining of this configuration in the folder, or None.

    Raises:
        RunError: the folder holds something else, or the retraining of another configuration.
    """
    path = new.path
    if not (path / RECORD_FILE).exists():
        if path.exists() and any(not one.name.startswith(".") for one in path.iterdir()):
            raise RunError(f"Cannot retrain in {path}: it holds other files. Choose another --name.")
        return None
    before = read(path)
    if before.config.fingerprint() != new.config.fingerprint():
        raise RunError(
            f"Cannot retrain {_title(new)} in {path}: it holds the retraining of {_title(before)}. Choose another "
            "--name."
        )
    return before


def _title(retraining: Retraining) -> str:
    changes = ", ".join(f"{path}={value}" for path, value in retraining.assignments.items())
    return f"trial {retraining.found_by['trial']}" + (f" with {changes}" if changes else "")
