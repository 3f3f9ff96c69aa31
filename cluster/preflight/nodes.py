"""One lookout on every machine of the cluster: it looks, listens for the others, and tells the time.

A lookout takes no CPU, so it starts on a busy machine and on a head that gives none away. It travels by value: a
machine that lacks the project can still say so.
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
"""How long a machine may take to start a process and open a port, s."""
LOOK_S = 120.0
"""How long it may take to look; longer than any of its checks."""
PINGS = 3
"""The quickest of them says most about a clock."""


@dataclass(frozen=True)
class Node:
    """A living machine of the cluster."""

    id: str
    name: str
    """Unique."""
    address: str
    gpus: float
    """That Ray has there to give."""


def nodes() -> list[Node]:
    """The living machines of the cluster this process is connected to."""
    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [
        Node(node["NodeID"], name, node["NodeManagerAddress"], node["Resources"].get("GPU", 0.0))
        for node, name in zip(alive, names(alive), strict=True)
    ]


def names(alive: Sequence[Mapping[str, Any]]) -> list[str]:
    """A unique name for each of Ray's nodes: its own where no other has it, or with its address, or with its id."""
    own = [str(node["NodeManagerHostname"]) for node in alive]
    longer = [f"{name} ({node['NodeManagerAddress']})" for name, node in zip(own, alive, strict=True)]
    longest = [f"{name} ({node['NodeID'][:6]})" for name, node in zip(own, alive, strict=True)]
    often, still = Counter(own), Counter(longer)
    choices = zip(own, longer, longest, strict=True)
    return [a if often[a] == 1 else b if still[b] == 1 else c for a, b, c in choices]


def here() -> str:
    """The id of the machine this process is on."""
    return str(ray.get_runtime_context().get_node_id())


def gather(there: Sequence[Node], asked: Mapping[str, Any]) -> list[Report]:
    """What every machine says of itself, in order; one that does not answer is a report that says why.

    Args:
        there: the machines.
        asked: as ``probe.look`` takes it, but for ``peers`` and ``gpus``: each machine is asked for its own.
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
    """How many seconds another clock is ahead of this process's, at least and at most.

    It is read between the question and the answer, nobody knows when: the round trip is how far the two lie apart.
    """
    trips = [(time.time(), read(), time.time()) for _ in range(pings)]
    return max(there - back for _, there, back in trips), min(there - asked for asked, there, _ in trips)


def _clock(lookout: Any) -> tuple[float, float]:
    try:
        return clock(lambda: float(ray.get(lookout.time.remote(), timeout=START_S)))
    except ray.exceptions.RayError:  # it has answered all else: that it is silent now is no fault of its clock
        return 0.0, 0.0


def _own(asked: Mapping[str, Any], node: Node, known: Sequence[tuple[str, str, int]]) -> dict[str, Any]:
    peers = [peer for peer in known if peer[0] != node.name]
    return {**asked, "peers": peers, "gpus": int(node.gpus) if asked["gpus"] else 0}


def _answers(asked: Mapping[Node, Any], limit_s: float) -> tuple[dict[Node, Any], dict[Node, str]]:
    """What came back in time, and why the rest did not."""
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
    """An actor on each machine, for the length of a ``with`` block."""
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
        """On one machine. Defined here, so that Ray sends it whole; what it imports, it imports there."""

        def listen(self) -> int:
            """A port that is open for the others from now on; the system answers them."""
            self.door = socket.create_server(("", 0), backlog=1024)
            return int(self.door.getsockname()[1])

        def look(self, asked: dict[str, Any]) -> dict[str, Any]:
            """What the machine says."""
            from cluster.preflight import probe

            return probe.look(asked)

        def time(self) -> float:
            """The machine's clock, s."""
            import time

            return time.time()

    return ray.remote(Lookout)
