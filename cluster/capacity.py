"""What the machines have, what is asked of them, and how often it fits: known before anything starts.

Tune itself waits for ever, in silence, for resources that no machine has. Here that is one error that says what there
is and what is missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray

from htt.errors import ClusterError

SHARES = 1e-9
"""Tolerance when fractions of a GPU are added up."""


@dataclass(frozen=True)
class Machine:
    """One machine of the cluster and what Ray may hand out of it."""

    name: str
    cpus: float
    gpus: float

    def __str__(self) -> str:
        return f"{self.name} ({self.cpus:g} CPU, {self.gpus:g} GPU)"


def machines() -> list[Machine]:
    """The living machines of the cluster this process is connected to."""
    return [
        Machine(node["NodeManagerHostname"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


def require(resources: Mapping[str, float], workers: int = 1, there: Sequence[Machine] | None = None) -> int:
    """How many times ``workers`` workers of those resources fit on the machines at once; at least 1.

    Args:
        resources: of one worker: {"CPU": cores, "GPU": GPUs}; fractions of one GPU are allowed.
        workers: of one trial or training; they may be spread over the machines.
        there: the machines; none: those of the cluster this process is connected to.

    Raises:
        ClusterError: not even once, or a worker's resources cannot be; says what there is and what is missing.
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


def _slots(machine: Machine, cpus: float, gpus: float) -> int:
    """Workers that fit on one machine; a worker's fraction of a GPU comes from one GPU."""
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
