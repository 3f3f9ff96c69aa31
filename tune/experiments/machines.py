"""Options shared by all scripts that run trials: concurrency, resources of a trial, storage and Ray cluster."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, TypeAlias

import tyro

from htt import console

OF_TRIAL = ("workers_per_trial", "cpus_per_worker", "gpus_per_trial")
"""Names of the options that set the resources of one trial."""


@dataclass
class Machines:
    """Number, resources and location of trials."""

    max_concurrent: console.Count = None
    """Trials at once (default: as many as fit on the machines)."""
    workers_per_trial: console.Count = None
    """Processes of a trial; several train it together by Ray Train (default: 1)."""
    cpus_per_worker: console.Number = None
    """Cores of each process, and its threads (default: 1)."""
    gpus_per_trial: console.Number = None
    """GPUs of a trial, over all its processes; 0.5 puts two trials on one (default: one for each process, where the
    machines have any)."""
    storage: console.Word = None
    """Folder or URI (s3://, gs://) all machines can write to (default: runs)."""
    address: console.Word = None
    """A Ray cluster to join ("auto" or host:port) (default: this machine)."""

    def options(self) -> dict[str, Any]:
        """Return the options that were given, as arguments of ``tune.experiments.spec.Run``, which has the defaults."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def of_trial(self) -> dict[str, Any]:
        """Return the given options in ``OF_TRIAL``; a resumed run accepts no other values for them."""
        return {name: value for name, value in self.options().items() if name in OF_TRIAL}


MachineOptions: TypeAlias = Annotated[Machines, tyro.conf.arg(name="")]
"""``Machines`` as a separate group in ``--help``, with option names without a prefix."""
