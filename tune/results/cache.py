"""The finished trainings of all runs beside one another: what was trained once need not be trained again.

A training is the same where its configuration is (``fingerprint``, the seed included), its data are (``data_key``) and
the code that trained it is (``cluster.revision.identity``). ``taken_from`` names the run, the trial and the commit.
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
    """A finished training of another run."""

    folder: RunFolder
    asked: Asked
    trial: Trial

    @property
    def clips(self) -> Path:
        """What it says of each clip."""
        return self.folder.clips / f"{self.trial.id}.parquet"

    @property
    def same_code(self) -> bool:
        """Whether the code that runs now trained it."""
        return self.trial.code == revision.identity()

    @property
    def origin(self) -> str:
        """Where it was trained, and by which code."""
        return self.trial.taken_from or f"{self.folder.name}/{self.trial.id} ({self.asked.commit})"

    def row(self, number: int, variant: str, seed: int, values: dict[str, Value], metric: str) -> Trial:
        """The row of a study that takes it over."""
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
        """Copy what it says of each clip to another run."""
        name = f"{CLIPS}/{self.trial.id}.parquet"
        (storage.local / CLIPS).mkdir(exist_ok=True)
        shutil.copyfile(self.clips, storage.local / name)
        storage.push(name)


class Shelf:
    """The complete trials of all runs below a folder."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs

    def find(self, config: Config, metrics: Sequence[str]) -> Found | None:
        """A finished training of this configuration on the same data, with its clips and these metrics.

        One that this code trained is preferred; see ``Found.same_code``.
        """
        fitting = []
        for found in self._finished.get(config.fingerprint(), []):
            known = all(metric in found.trial.metrics for metric in metrics)
            if known and found.clips.is_file() and found.trial.data == data_key(config):
                fitting.append(found)
        return min(fitting, key=lambda found: not found.same_code, default=None)

    def seconds(self, config: Config) -> float | None:
        """What a training of this configuration takes, whatever its seed; none: none has ended yet."""
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
            with contextlib.suppress(HTTError):  # of an older version
                config = override(found.asked.config(), {**found.trial.values, SEED: 0})
                seconds.setdefault(config.fingerprint(), []).append(found.trial.seconds)
        return seconds

    def _complete(self) -> Iterator[Found]:
        for path in sorted(self.runs.glob("*/trials.parquet")):
            folder = RunFolder(path.parent)
            with contextlib.suppress(HTTError):  # a run that cannot be read has nothing to give
                asked = folder.asked()
                yield from (Found(folder, asked, trial) for trial in folder.trials() if trial.state == "complete")
