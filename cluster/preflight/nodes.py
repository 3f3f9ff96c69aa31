"""Actors that check every machine of the cluster: each runs the probe, opens a port for the others and reads the clock.

An actor needs no CPU, so it starts on a busy machine and on a head without CPUs. Its class is pickled by value, so a
machine without the project can still report that the project is missing.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.preflight.faults import Report
from cluster.preflight.probe import said

START_S = 120.0
"""Time limit for a machine to start a process and open a port, s."""
LOOK_S = 120.0
"""Time limit for all checks of a machine, s; longer than the limit of each check."""
PINGS = 3
"""Number of clock readings; the one with the shortest round trip is the most accurate."""


@dataclass(frozen=True)
class Node:
    """Live node of the cluster."""

    id: str
    name: str
    """Unique name, from ``names``."""
    address: str
    gpus: float
    """Number of GPUs that Ray may allocate on the node."""


def nodes() -> list[Node]:
    """Return the live nodes of the cluster that this process is connected to."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [
        Node(node["NodeID"], name, node["NodeManagerAddress"], node["Resources"].get("GPU", 0.0))
        for node, name in zip(alive, names(alive), strict=True)
    ]


def names(alive: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a unique name for each Ray node: its host name, followed by its address or its ID where needed."""
    own = [str(node["NodeManagerHostname"]) for node in alive]
    longer = [f"{name} ({node['NodeManagerAddress']})" for name, node in zip(own, alive, strict=True)]
    longest = [f"{name} ({node['NodeID'][:6]})" for name, node in zip(own, alive, strict=True)]
    often, still = Counter(own), Counter(longer)
    choices = zip(own, longer, longest, strict=True)
    return [a if often[a] == 1 else b if still[b] == 1 else c for a, b, c in choices]


def here() -> str:
    """Return the ID of the node that runs this process."""
    return str(ray.get_runtime_context().get_node_id())


def gather(there: Sequence[Node], asked: Mapping[str, Any]) -> list[Report]:
    """Return the report of every machine, in order; if a machine does not answer, its report says why.

    Args:
        there: the machines.
        asked: request for ``probe.look``; ``peers`` and ``gpus`` are set for each machine.
    """
    with _lookouts(there) as lookouts:
        ports, silent = _answers({node: lookouts[node].listen.remote() for node in there}, START_S)
        known = [(node.name, node.address, ports[node]) for node in there if node in ports]
        looking = {node: lookouts[node].look.remote(_own(asked, node, known)) for node in ports}
        seen, more = _answers(looking, LOOK_S)
        clocks = {node: _clock(lookouts[node]) for node in seen}
    silent |= more
    return [
        Report.of(node.name, seen[node], promised_gpus=node.gpus, clock_s=clocks[node])
        if node in seen
        else Report(node.name, silence=silent[node])
        for node in there
    ]


def clock(read: Callable[[], float], pings: int = PINGS) -> tuple[float, float]:
    """Return the lower and upper bound of how far another clock is ahead of this one, s.

    The other clock is read at an unknown time between request and answer, so the bounds differ by the round trip.

    Args:
        read: reads the other clock, s.
        pings: number of readings.
    """
    trips = [(time.time(), read(), time.time()) for _ in range(pings)]
    return max(there - back for _, there, back in trips), min(there - asked for asked, there, _ in trips)


def _clock(lookout: Any) -> tuple[float, float]:
    try:
        return clock(lambda: float(ray.get(lookout.time.remote(), timeout=START_S)))
    except ray.exceptions.RayError:  # the machine answered before: no answer now is not a fault of its clock
        return 0.0, 0.0


def _own(asked: Mapping[str, Any], node: Node, known: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    peers = [peer for peer in known if peer[0] != node.name]
    return {**asked, "peers": peers, "gpus": int(node.gpus) if asked["gpus"] else 0}


def _answers(asked: Mapping[Node, Any], limit_s: float) -> tuple[dict[Node, Any], dict[Node, str]]:
    """Return the answers that came in time, and for each other node the reason."""
    ready, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=limit_s) if asked else ([], [])
    found: dict[Node, Any] = {}
    silent: dict[Node, str] = {}
    for node, ref in asked.items():
        if ref not in ready:
            silent[node] = f"nothing within {limit_s:g} s"
            continue
        try:
            found[node] = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            silent[node] = f"{type(error.cause).__name__}: {said(error.cause)}"
        except ray.exceptions.RayError as error:
            silent[node] = said(error)
    return found, silent


@contextlib.contextmanager
def _lookouts(there: Sequence[Node]) -> Iterator[dict[Node, Any]]:
    """Yield one actor for each machine, and kill the actors after the ``with`` block."""
    kind = _kind()
    pinned = {node: NodeAffinitySchedulingStrategy(node.id, soft=False) for node in there}
    started = {node: kind.options(num_cpus=0, scheduling_strategy=pinned[node]).remote() for node in there}
    try:
        yield started
    finally:
        for lookout in started.values():
            ray.kill(lookout)


def _kind() -> Any:
    class Lookout:
        """Actor on one machine, defined in a function so that Ray pickles it by value; its imports run there."""

        def listen(self) -> int:
            """Open a port and return its number; the operating system accepts connections to it."""
            self.door = socket.create_server(("", 0), backlog=1024)
            return int(self.door.getsockname()[1])

        def look(self, asked: dict[str, Any]) -> dict[str, Any]:
            """Return the results of the checks."""
            from cluster.preflight import probe

            return probe.look(asked)

        def time(self) -> float:
            """Return the machine's clock, s."""
            import time

            return time.time()

    return ray.remote(Lookout)
