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

LAUNCHED = "ray_bootstrap_config.yaml"
"""Cluster configuration that ``ray up`` writes to the home folder of the head's user; Ray's API does not give it."""
HEAD = "node:__internal_head__"
"""Resource that only the head has."""
SHARES = 1e-9
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
    living = [
        Machine(node["NodeManagerHostname"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in alive
    ]
    file = Path.home() / LAUNCHED
    if not in_job() or not file.is_file():
        return living
    workers = sum(HEAD not in node["Resources"] for node in alive)
    return living + to_come(yaml.safe_load(file.read_text(encoding="utf-8")), workers)


def to_come(launched: Mapping[str, Any], workers: int) -> list[Machine]:
    """Return the machines that a cloud may still start, up to the limit of each node type and of the cluster.

    Args:
        launched: configuration of ``ray up``, with the resources that Ray found for each node type.
        workers: number of live workers; they are counted as machines of the first node types.
    """
    if launched["provider"]["type"] == "local":
        return []  # a fixed set of machines
    kinds = launched["available_node_types"].items()
    allowed = [
        Machine(f"{name}, when needed", kind["resources"].get("CPU", 0.0), kind["resources"].get("GPU", 0.0))
        for name, kind in kinds
        if name != launched["head_node_type"]
        for _ in range(kind["max_workers"])
    ]
    return allowed[workers : launched["max_workers"]]


def require(resources: Mapping[str, float], workers: int = 1, there: Sequence[Machine] | None = None) -> int:
    """Return how many groups of ``workers`` workers fit on the machines at the same time; at least 1.

    Args:
        resources: resources of one worker, {"CPU": cores, "GPU": GPUs}; fractions of one GPU are allowed.
        workers: workers of one trial or training; they may be spread over the machines.
        there: machines, or None for those of the connected cluster.

    Raises:
        ClusterError: not one group fits, or the resources are invalid; says what is available and what is missing.
    """
    cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
    _check(cpus, gpus, workers)
    there = machines() if there is None else there
    slots = sum(_slots(machine, cpus, gpus) for machine in there)
    if slots < workers:
        asked = f"{workers} worker{'s' if workers > 1 else ''} of {cpus:g} CPU and {gpus:g} GPU"
        listed = ", ".join(map(str, there)) or "nothing"
        raise ClusterError(
            f"The machines must have {asked} at once; there is room for {slots}. There is: {listed}. "
            f"Missing: {_missing(cpus, gpus, workers, there)}. Ask for less, or join more machines with --address."
        )
    return slots // workers


def gpus(asked: float | None, workers: int = 1) -> float:
    """Return ``asked`` if it is given, else one GPU for each worker if any machine has a GPU, else 0."""
    return asked if asked is not None else float(workers * any(machine.gpus for machine in machines()))


def _slots(machine: Machine, cpus: float, gpus: float) -> int:
    """Return how many workers fit on one machine; a fraction of a GPU is always of a single GPU."""
    fits = [math.floor(machine.cpus / cpus + SHARES)] if cpus else []
    if gpus >= 1:
        fits.append(math.floor(machine.gpus / gpus + SHARES))
    elif gpus > 0:
        fits.append(math.floor(machine.gpus) * math.floor(1 / gpus + SHARES))
    return min(fits)


def _missing(cpus: float, gpus: float, workers: int, there: Sequence[Machine]) -> str:
    short = {
        "CPU": workers * cpus - sum(machine.cpus for machine in there),
        "GPU": workers * gpus - sum(machine.gpus for machine in there),
    }
    words = [f"{amount:g} {name}" for name, amount in short.items() if amount > SHARES]
    return " and ".join(words) or "a machine with enough of both at once"


def _check(cpus: float, gpus: float, workers: int) -> None:
    if workers < 1:
        raise ClusterError(f"A trial needs at least one worker; got {workers}.")
    if cpus < 0 or gpus < 0 or cpus + gpus <= 0:
        raise ClusterError(f"A worker needs some CPU or GPU, and no less than none; got {cpus:g} CPU and {gpus:g} GPU.")
    if gpus > 1 and gpus != int(gpus):
        raise ClusterError(f"A worker takes a fraction of one GPU or whole ones, as {math.ceil(gpus)}; got {gpus:g}.")
