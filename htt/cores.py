"""Number of CPU cores this process may use; all other modules ask here, so that none uses too many.

A machine shows all its cores even to a process that was given only some: by an affinity (``taskset``), a container's
CPU quota (cgroup), or a share of a SLURM node. The smallest of these limits applies.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
SLURM = ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE")
"""A task's share; without one, the job's share of this node."""


def cores(environment: Mapping[str, str] = os.environ, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """Return the number of cores this process may use; at least 1.

    Args:
        environment: environment variables, which hold SLURM's limits.
        cgroups: file system of the cgroup limits.
        membership: file that names the cgroups of this process.
    """
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([visible, *_slurm(environment), *map(math.floor, _quotas(cgroups, membership))]))


def _slurm(environment: Mapping[str, str]) -> list[int]:
    given = [environment[name] for name in SLURM if environment.get(name, "").isdigit()]
    return [int(given[0])] if given and "SLURM_JOB_ID" in environment else []


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Yield the limits, in cores, of the cgroups of this process and of their parents."""
    for line in _read(membership).splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2
            for folder in _upwards(cgroups, group):
                limit = _read(folder / "cpu.max").split()
                if len(limit) == 2 and limit[0] != "max":
                    yield int(limit[0]) / int(limit[1])
        elif "cpu" in controllers.split(","):
            for folder in _upwards(cgroups / controllers, group):
                quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
                if quota and period and int(quota) > 0:
                    yield int(quota) / int(period)


def _upwards(root: Path, group: str) -> Iterator[Path]:
    """Yield the folder of a cgroup and its parents; inside a container the root is the container's own cgroup."""
    inside = PurePosixPath(group.lstrip("/"))
    for part in (inside, *inside.parents):
        yield root / part


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:  # another system, or no such limit
        return ""
