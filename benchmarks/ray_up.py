"""Time to start and to end a cluster of your own machines.

Hosts out of network namespaces on this machine, with ``cluster/deploy/on_premises.yaml``; needs root::

    python benchmarks/ray_up.py                 prints, and writes benchmarks/results/ray_up.md
    python benchmarks/ray_up.py --no-result     prints

They share this machine's cores, so that starting Ray on all of them takes longer than on as many machines; there is no
network to be slow, and the environment is there already.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from hosts import why_not
from on_premises import Cluster
from result import header, write

STEPS = (
    "hosts with sshd",
    "`ray up` returns",
    "all nodes alive, after that",
    "`ray up` on a cluster that is up",
    "`ray down`",
)


def timed(step: Callable[[], object]) -> float:
    started = time.monotonic()
    step()
    return time.monotonic() - started


def measure(folder: Path, workers: int) -> list[float]:
    """Return the seconds of each step."""
    started = time.monotonic()
    with Cluster(folder, workers=workers) as cluster:
        hosts_s = time.monotonic() - started
        cluster.make_token()
        up_s = timed(cluster.up)
        cluster.open_dashboard()
        alive_s = timed(lambda: cluster.wait_for_nodes(1 + workers))
        return [hosts_s, up_s, alive_s, timed(cluster.up), timed(cluster.down)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2, help="hosts beside the head")
    parser.add_argument("--no-result", action="store_true", help="print only")
    options = parser.parse_args()
    if reason := why_not():
        print(f"error: {reason}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        rounds = [measure(Path(scratch), options.workers) for _ in range(options.rounds)]
    rows = [
        f"| {step} | {statistics.median(taken):.1f} | {min(taken):.1f} to {max(taken):.1f} |"
        for step, taken in zip(STEPS, zip(*rounds, strict=True), strict=True)
    ]
    lines = [
        *header("Making and ending a cluster", "python benchmarks/ray_up.py", ("ray",)),
        f"A head and {options.workers} workers out of network namespaces, all on the cores of this machine; the "
        f"environment is there already. Median and range of {options.rounds} rounds.",
        "",
        "| step | s | range |",
        "| --- | --- | --- |",
        *rows,
    ]
    write("ray_up", lines, keep=not options.no_result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
