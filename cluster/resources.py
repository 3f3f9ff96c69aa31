"""Resources of the machines, and how many trials or trainings fit on them.

Ray Tune waits forever, without a message, for resources that no machine has. Here the check is made before the start,
and one error lists what is available and what is missing. Machines that a cloud starts on demand count as available.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import yaml

from htt.errors import ClusterError
from htt.parallel import in_job

CLUSTER_CONFIG = "ray_bootstrap_config.yaml"
"""Cluster configuration that ``ray up`` writes to the home folder of the head's user; Ray's API does not give it."""
HEAD = "node:__internal_head__"
"""Resource that only the head has."""
TOLERANCE = 1e-9
"""Tolerance when fractions of a GPU are added up."""


@dataclass(frozen=True)
class Machine:
    """Machine of the cluster with the resources that Ray may allocate on it."""

    name: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.name} ({self.cpus:g} CPU, {self.gpus:g} GPU)"


def machines() -> list[Machine]:
    """Return the live machines of the connected cluster and those that the cloud may start on demand."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    running = [
        Machine(node["NodeManagerHostname"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in alive
    ]
    file = Path.home() / CLUSTER_CONFIG
    if not in_job() or not file.is_file():
        return running
    workers = sum(HEAD not in node["Resources"] for node in alive)
    return running + launchable(yaml.safe_load(file.read_text(encoding="utf-8")), workers)


def launchable(config: Mapping[str, Any], workers: int) -> list[Machine]:
    """Return the machines that a cloud may still start, up to the limit of each node type and of the cluster.

    Args:
        config: configuration of ``ray up``, with the resources that Ray found for each node type.
        workers: number of live workers; they are counted as machines of the first node types.
    """
    if config["provider"]["type"] == "local":
        return []  # a fixed set of machines
    types = config["available_node_types"].items()
    allowed = [
        Machine(f"{name}, when needed", kind["resources"].get("CPU", 0.0), kind["resources"].get("GPU", 0.0))
        for name, kind in types
        if name != config["head_node_type"]
        for _ in range(kind["max_workers"])
    ]
    return allowed[workers : config["max_workers"]]


def require(resources: Mapping[str, float], workers: int = 1, available: Sequence[Machine] | None = None) -> int:
    """Return how many groups of ``workers`` workers fit on the machines at the same time; at least 1.

    Args:
        resources: resources of one worker, {"CPU": cores, "GPU": GPUs}; fractions of one GPU are allowed.
        workers: workers of one trial or training; they may be spread over the machines.
        available: machines, or None for those of the connected cluster.

    Raises:
        ClusterError: not one group fits, or the resources are invalid; says what is available and what is missing.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    _check(cpus, gpus, workers)
    available = machines() if available is None else available
    slots = sum(_slots(machine, cpus, gpus) for machine in available)
    if slots < workers:
        needed = f"{workers} worker{'s' if workers > 1 else ''} of {cpus:g} CPU and {gpus:g} GPU"
        raise ClusterError(
            f"Not enough resources for {needed} at the same time: {slots} would fit. Available: "
            f"{', '.join(map(str, available)) or 'nothing'}. Missing: {_missing(cpus, gpus, workers, available)}. "
            "Request less, or join more machines with --address."
        )
    return slots // workers


def gpus(requested: float | None, workers: int = 1) -> float:
    """Return ``requested`` if it is given, else one GPU for each worker if any machine has a GPU, else 0."""
    return requested if requested is not None else float(workers * any(machine.gpus for machine in machines()))


def cpus(requested: float | None, gpus_per_worker: float, available: Sequence[Machine] | None = None) -> float:
    """Return ``requested`` if it is given, else 1, or for workers with GPUs the cores of a machine for each of these.

    Args:
        requested: cores of each worker, or None.
        gpus_per_worker: GPUs of each worker.
        available: machines, or None for those of the connected cluster; those with GPUs may differ: the fewest count.
    """
    if requested is not None or not gpus_per_worker:
        return requested if requested is not None else 1.0
    with_gpus = [machine for machine in (machines() if available is None else available) if machine.gpus]
    shares = [math.floor(machine.cpus * gpus_per_worker / machine.gpus) for machine in with_gpus]
    return float(max(1, min(shares, default=1)))


def _slots(machine: Machine, cpus: float, gpus: float) -> int:
    """Return how many workers fit on one machine; a fraction of a GPU is always of a single GPU."""
    fits = [math.floor(machine.cpus / cpus + TOLERANCE)] if cpus else []
    if gpus >= 1:
        fits.append(math.floor(machine.gpus / gpus + TOLERANCE))
    elif gpus > 0:
        fits.append(math.floor(machine.gpus) * math.floor(1 / gpus + TOLERANCE))
    return min(fits)


def _missing(cpus: float, gpus: float, workers: int, available: Sequence[Machine]) -> str:
    short = {
        "CPU": workers * cpus - sum(machine.cpus for machine in available),
        "GPU": workers * gpus - sum(machine.gpus for machine in available),
    }
    words = [f"{amount:g} {name}" for name, amount in short.items() if amount > TOLERANCE]
    return " and ".join(words) or "a machine with enough of both at once"


def _check(cpus: float, gpus: float, workers: int) -> None:
    if workers < 1:
        raise ClusterError(f"Invalid number of workers {workers}: expected at least 1.")
    if cpus < 0 or gpus < 0 or cpus + gpus <= 0:
        raise ClusterError(f"Invalid resources of a worker: {cpus:g} CPU, {gpus:g} GPU. Expected more than 0 of one.")
    if gpus > 1 and gpus != int(gpus):
        raise ClusterError(f"Invalid number of GPUs of a worker {gpus:g}: expected at most 1, or a whole number.")
