"""The options of every script that runs trials: how many at once, on what, and where their files go."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

import tyro


@dataclass
class Machines:
    """How and where trials run."""

    max_concurrent: int | None = None
    """Trials at once; none: as many as fit on the machines."""
    workers_per_trial: int = 1
    """Processes of a trial; several train it together by Ray Train."""
    cpus_per_worker: float = 1.0
    """Cores of each process, and its threads."""
    gpus_per_trial: float | None = None
    """GPUs of a trial, over all its processes; 0.5 puts two trials on one; none: one for each process, where the
    machines have any."""
    storage: str | None = None
    """Folder or URI (s3://, gs://) all machines can write to; none: runs."""
    address: str | None = None
    """A Ray cluster to join ("auto" or host:port); none: this machine."""

    def options(self) -> dict[str, Any]:
        """As ``tune.question.Run`` takes them."""
        return asdict(self)


MachineOptions: TypeAlias = Annotated[Machines, tyro.conf.arg(name="")]
"""A group of its own in ``--help``, whose options have no prefix."""
