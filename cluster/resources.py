"""What the machines have, what is asked of them, and how often it fits: known before anything starts.

Tune itself waits for ever, in silence, for resources that no machine has. Here that is one error that says what there
is and what is missing. Machines that a cloud starts when trials wait for them count as there.
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
"""What ``ray up`` leaves in the home of the head's user, where a job's driver runs: Ray's API does not tell it."""
HEAD = "node:__internal_head__"
"""A resource that the head has, and no other machine."""
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
    """The living machines of the cluster this process is connected to, and those that come when they are needed."""
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
    """The machines a cloud may still start: of each kind as many as there may be, and no more than of all together.

    Args:
        launched: what ``ray up`` was told, completed by what Ray found out of the kinds of machines.
        workers: those that live; they are taken for machines of the first kinds.
    """
    if launched["provider"]["type"] == "local":
        return []  # the machines are what they are
    kinds = launched["available_node_types"].items()
    allowed = [
        Machine(f"{name}, when needed", kind["resources"].get("CPU", 0.0), kind["resources"].get("GPU", 0.0))
        for name, kind in kinds
        if name != launched["head_node_type"]
        for _ in range(kind["max_workers"])
    ]
    return allowed[workers : launched["max_workers"]]


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


def gpus(asked: float | None, workers: int = 1) -> float:
    """GPUs of so many workers together: what was asked for, or one each where the machines have any."""
    return asked if asked is not None else float(workers * any(machine.gpus for machine in machines()))


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
