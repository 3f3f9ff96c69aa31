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
from cluster.preflight.probe import first_line

START_S = 120.0
"""Time limit for a machine to start a process and open a port, s."""
CHECKS_S = 120.0
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
    hosts = [str(node["NodeManagerHostname"]) for node in alive]
    addressed = [f"{host} ({node['NodeManagerAddress']})" for host, node in zip(hosts, alive, strict=True)]
    numbered = [f"{host} ({node['NodeID'][:6]})" for host, node in zip(hosts, alive, strict=True)]
    counts = Counter(hosts + addressed)
    choices = zip(hosts, addressed, numbered, strict=True)
    return [a if counts[a] == 1 else b if counts[b] == 1 else c for a, b, c in choices]


def this_node() -> str:
    """Return the ID of the node that runs this process."""
    return str(ray.get_runtime_context().get_node_id())


def gather(machines: Sequence[Node], request: Mapping[str, Any]) -> list[Report]:
    """Return the report of every machine, in order; if a machine does not answer, its report says why.

    The request is that of ``probe.run``; its ``peers`` and ``gpus`` are set for each machine.
    """
    with _actors(machines) as actors:
        ports, errors = _answers({node: actors[node].listen.remote() for node in machines}, START_S)
        peers = [(node.name, node.address, ports[node]) for node in machines if node in ports]
        running = {node: actors[node].run.remote(_request(request, node, peers)) for node in ports}
        results, more = _answers(running, CHECKS_S)
        clocks = {node: _clock(actors[node]) for node in results}
    errors |= more
    return [
        Report.of(node.name, results[node], promised_gpus=node.gpus, clock_s=clocks[node])
        if node in results
        else Report(node.name, error=errors[node])
        for node in machines
    ]


def clock(read: Callable[[], float], pings: int = PINGS) -> tuple[float, float]:
    """Return the lower and upper bound of how far another clock is ahead of this one, s.

    The other clock is read at an unknown time between request and answer, so the bounds differ by the round trip.
    """
    trips = [(time.time(), read(), time.time()) for _ in range(pings)]
    return max(other - end for _, other, end in trips), min(other - start for start, other, _ in trips)


def _clock(actor: Any) -> tuple[float, float]:
    try:
        return clock(lambda: float(ray.get(actor.time.remote(), timeout=START_S)))
    except ray.exceptions.RayError:  # the machine answered before: no answer now is not a fault of its clock
        return 0.0, 0.0


def _request(request: Mapping[str, Any], node: Node, peers: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    """Return the request for one node, with the other nodes as its peers."""
    others = [peer for peer in peers if peer[0] != node.name]
    return {**request, "peers": others, "gpus": int(node.gpus) if request["gpus"] else 0}


def _answers(calls: Mapping[Node, Any], limit_s: float) -> tuple[dict[Node, Any], dict[Node, str]]:
    """Return the answers that came in time, and for each other node the reason."""
    ready, _ = ray.wait(list(calls.values()), num_returns=len(calls), timeout=limit_s) if calls else ([], [])
    answers: dict[Node, Any] = {}
    errors: dict[Node, str] = {}
    for node, ref in calls.items():
        if ref not in ready:
            errors[node] = f"no answer within {limit_s:g} s"
            continue
        try:
            answers[node] = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            errors[node] = f"{type(error.cause).__name__}: {first_line(error.cause)}"
        except ray.exceptions.RayError as error:
            errors[node] = first_line(error)
    return answers, errors


@contextlib.contextmanager
def _actors(machines: Sequence[Node]) -> Iterator[dict[Node, Any]]:
    """Yield one actor for each machine, and kill the actors after the ``with`` block."""
    actor_class = _actor_class()
    pinned = {node: NodeAffinitySchedulingStrategy(node.id, soft=False) for node in machines}
    actors = {node: actor_class.options(num_cpus=0, scheduling_strategy=pinned[node]).remote() for node in machines}
    try:
        yield actors
    finally:
        for actor in actors.values():
            ray.kill(actor)


def _actor_class() -> Any:
    class Probe:
        """Actor on one machine, defined in a function so that Ray pickles it by value; its imports run there."""

        def listen(self) -> int:
            """Open a port and return its number; the operating system accepts connections to it."""
            self.server = socket.create_server(("", 0), backlog=1024)
            return int(self.server.getsockname()[1])

        def run(self, request: dict[str, Any]) -> dict[str, Any]:
            """Return the results of the checks."""
            from cluster.preflight import probe

            return probe.run(request)

        def time(self) -> float:
            """Return the machine's clock, s."""
            import time

            return time.time()

    return ray.remote(Probe)
