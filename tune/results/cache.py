"""Cache of complete trials of all runs, so that a study does not train the same configuration twice.

Two trials are equal if their configurations (``fingerprint``, including the seed), data (``data_key``) and code
(``cluster.revision.identity``) are equal. ``taken_from`` names the run, the trial and the commit.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from cluster import revision
from htt.config import Config, Value, override
from htt.data.location import data_key
from htt.errors import HTTError
from tune.experiments.study import SEED
from tune.results.run_folder import Asked, RunFolder, Trial
from tune.results.sync import CLIPS, Storage


@dataclass(frozen=True)
class Found:
    """Complete trial of another run."""

    folder: RunFolder
    asked: Asked
    trial: Trial

    @property
    def clips(self) -> Path:
        """File of its results per clip."""
        return self.folder.clips / f"{self.trial.id}.parquet"

    @property
    def same_code(self) -> bool:
        """True if the current code trained it."""
        return self.trial.code == revision.identity()

    @property
    def origin(self) -> str:
        """Run, trial and commit that trained it: "run/trial (commit)"."""
        return self.trial.taken_from or f"{self.folder.name}/{self.trial.id} ({self.asked.commit})"

    def row(self, number: int, variant: str, seed: int, values: dict[str, Value], metric: str) -> Trial:
        """Return the row of a study that reuses this trial."""
        return replace(
            self.trial,
            number=number,
            variant=variant,
            seed=seed,
            values=values,
            curve=self.trial.curves.get(metric, self.trial.curve if self.asked.metric == metric else ()),
            finished_s=0.0,
            taken_from=self.origin,
            instead_of=(),
        )

    def copy(self, storage: Storage) -> None:
        """Copy its results per clip to another run."""
        name = f"{CLIPS}/{self.trial.id}.parquet"
        (storage.local / CLIPS).mkdir(exist_ok=True)
        shutil.copyfile(self.clips, storage.local / name)
        storage.push(name)


class Shelf:
    """Complete trials of all runs in a folder."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def find(self, config: Config, metrics: Sequence[str]) -> Found | None:
        """Return a complete trial of this configuration on the same data, or None.

        The trial has results per clip and all ``metrics``. A trial of the current code is preferred; see
        ``Found.same_code``.
        """
        fitting = []
        for found in self._finished.get(config.fingerprint(), []):
            known = all(metric in found.trial.metrics for metric in metrics)
            if known and found.clips.is_file() and found.trial.data == data_key(config):
                fitting.append(found)
        return min(fitting, key=lambda found: not found.same_code, default=None)

    def seconds(self, config: Config) -> float | None:
        """Return the mean duration of this configuration's trials over all seeds, s, or None if there are none."""
        known = self._seconds.get(override(config, {SEED: 0}).fingerprint(), [])
        return sum(known) / len(known) if known else None

    @cached_property
    def _finished(self) -> dict[str, list[Found]]:
        finished: dict[str, list[Found]] = {}
        for found in self._complete():
            finished.setdefault(found.trial.fingerprint, []).append(found)
        return finished

    @cached_property
    def _seconds(self) -> dict[str, list[float]]:
        seconds: dict[str, list[float]] = {}
        for found in (one for several in self._finished.values() for one in several):
            with contextlib.suppress(HTTError):  # trials of older versions may be incompatible
                config = override(found.asked.config(), {**found.trial.values, SEED: 0})
                seconds.setdefault(config.fingerprint(), []).append(found.trial.seconds)
        return seconds

    def _complete(self) -> Iterator[Found]:
        for path in sorted(self.runs.glob("*/trials.parquet")):
            folder = RunFolder(path.parent)
            with contextlib.suppress(HTTError):  # skip unreadable runs
                asked = folder.asked()
                yield from (Found(folder, asked, trial) for trial in folder.trials() if trial.state == "complete")
