"""Cache of complete trials, so that no configuration is trained twice.

On a CPU training is deterministic: two trials have equal results if their configurations (``fingerprint``, including
the seed), data (``data_key``) and code (``cluster.revision.identity``) are equal. On a GPU that holds only with
``train.deterministic``; otherwise a result is one draw, as that of another seed would be, and the cache repeats this
draw: an average over seeds stays an average over independent draws, because each seed is trained once. Pruned trials
are left out, because another scheduler might not stop them.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster import revision
from htt import files
from htt.config import Config, override
from htt.data.location import data_key
from htt.errors import HTTError
from tune.experiments.candidate import Candidate
from tune.experiments.study import SEED
from tune.results.run_folder import RunFolder, RunRecord, Trial
from tune.results.sync import CLIPS, Storage


@dataclass(frozen=True)
class CachedTrial:
    """Complete trial whose result can replace a training."""

    trial: Trial
    folder: RunFolder
    """Folder of the run that has it."""
    record: RunRecord | None = None
    """Record of that run, or None for a trial of this run or of its warm-start runs."""

    @property
    def origin(self) -> str:
        """Run, trial and commit that trained it: "run/trial (commit)"; without the commit if it is this run's."""
        commit = f" ({self.record.commit})" if self.record else ""
        return self.trial.taken_from or f"{self.folder.name}/{self.trial.id}{commit}"

    @property
    def clips(self) -> Path:
        """File of its results per clip."""
        return self.folder.clips / f"{self.trial.id}.parquet"

    @property
    def same_code(self) -> bool:
        """True if the current code trained it."""
        return self.trial.code == revision.identity()

    def curve(self, metric: str) -> Sequence[float]:
        """Return a metric's value at each epoch; empty if it was not recorded."""
        recorded = self.trial.curve if self.record and self.record.spec.metric == metric else ()
        return self.trial.curves.get(metric, recorded)

    def row(self, **changes: Any) -> Trial:
        """Return the row of a trial that reuses this result."""
        return replace(self.trial, taken_from=self.origin, instead_of=(), **changes)

    def copy_clips(self, storage: Storage) -> None:
        """Copy its results per clip from the other run to this one, atomically: the file is complete or missing.

        Raises:
            StorageError: the copy cannot be written.
        """
        name = f"{CLIPS}/{self.trial.id}.parquet"
        with files.replacing(storage.local / name) as copy:
            shutil.copyfile(self.clips, copy)
        storage.push(name)


class TrialCache:
    """Index of complete trials by the fingerprints of their configurations."""

    def __init__(self, metrics: Iterable[str], *, share_any: bool = False) -> None:
        """Create an empty cache.

        Args:
            metrics: metrics of which a reusable result must have finite values.
            share_any: True to reuse trials of other runs that other code trained.
        """
        self.metrics, self.share_any = tuple(dict.fromkeys(metrics)), share_any
        self.other_code: list[CachedTrial] = []
        """Trials that ``find`` refused because other code trained them."""
        self._trials: dict[str, list[CachedTrial]] = {}

    @classmethod
    def of_runs(cls, runs: Path, metrics: Iterable[str], *, share_any: bool = False) -> TrialCache:
        """Return a cache of the complete trials of all runs in a folder; unreadable runs are skipped."""
        cache = cls(metrics, share_any=share_any)
        for path in sorted(runs.glob("*/trials.parquet")):
            folder = RunFolder(path.parent)
            with contextlib.suppress(HTTError):
                record = folder.record
                for trial in folder.trials():
                    cache._add(CachedTrial(trial, folder, record))
        return cache

    def add(self, trial: Trial, folder: RunFolder) -> None:
        """Add a trial of this run or of its warm-start runs, whose code was compared when the run started or resumed.

        Args:
            trial: the trial; it is ignored unless it is complete.
            folder: folder of this run.
        """
        self._add(CachedTrial(trial, folder))

    def _add(self, cached: CachedTrial) -> None:
        if cached.trial.state == "complete":
            self._trials.setdefault(cached.trial.fingerprint, []).append(cached)

    def find(self, candidate: Candidate) -> CachedTrial | None:
        """Return a complete trial of this configuration on the same data, or None; one of the current code first.

        A trial of another run must also have its results per clip, and the same code unless ``share_any`` is set.
        """
        known = self._trials.get(candidate.fingerprint)
        if not known:
            return None
        try:
            data = data_key(candidate.config)
        except HTTError:  # training reports why the data cannot be read
            return None
        fitting = sorted((each for each in known if self._fits(each, data)), key=lambda each: not each.same_code)
        found = next(iter(fitting), None)
        if found and found.record and not (found.same_code or self.share_any):
            self.other_code.append(found)
            return None
        return found

    def _fits(self, cached: CachedTrial, data: str) -> bool:
        trial = cached.trial
        measured = all(math.isfinite(trial.metrics.get(name, math.nan)) for name in self.metrics)
        if cached.record is None:
            return measured and trial.data in (data, None)  # None: this run was started by an older version
        return measured and trial.data == data and cached.clips.is_file()

    def seconds(self, config: Config) -> float | None:
        """Return the mean duration of this configuration's trials over all seeds, s, or None if there are none."""
        known = self._seconds.get(override(config, {SEED: 0}).fingerprint(), [])
        return sum(known) / len(known) if known else None

    @cached_property
    def _seconds(self) -> dict[str, list[float]]:
        seconds: dict[str, list[float]] = {}
        for each in itertools.chain.from_iterable(self._trials.values()):
            with contextlib.suppress(HTTError):  # trials of older versions may be incompatible
                base = each.record.config() if each.record else Config()
                config = override(base, {**each.trial.values, SEED: 0})
                seconds.setdefault(config.fingerprint(), []).append(each.trial.seconds)
        return seconds
