"""The options of every script that runs trials: how many at once, on what, and where their files go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

import tyro

OF_TRIAL = ("workers_per_trial", "cpus_per_worker", "gpus_per_trial")
"""A trial's share of the machines."""


@dataclass
class Machines:
    """How and where trials run."""

    max_concurrent: int | None = None
    """Trials at once; none: as many as fit on the machines."""
    workers_per_trial: int | None = None
    """Processes of a trial; several train it together by Ray Train; none: 1."""
    cpus_per_worker: float | None = None
    """Cores of each process, and its threads; none: 1."""
    gpus_per_trial: float | None = None
    """GPUs of a trial, over all its processes; 0.5 puts two trials on one; none: one for each process, where the
    machines have any."""
    storage: str | None = None
    """Folder or URI (s3://, gs://) all machines can write to; none: runs."""
    address: str | None = None
    """A Ray cluster to join ("auto" or host:port); none: this machine."""

    def options(self) -> dict[str, Any]:
        """As ``tune.experiments.spec.Run`` takes them, which knows what holds where nothing is given."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def of_trial(self) -> dict[str, Any]:
        """What is given of a trial's share of the machines: a run that is resumed keeps its own."""
        return {name: value for name, value in self.options().items() if name in OF_TRIAL}


MachineOptions: TypeAlias = Annotated[Machines, tyro.conf.arg(name="")]
"""A group of its own in ``--help``, whose options have no prefix."""
