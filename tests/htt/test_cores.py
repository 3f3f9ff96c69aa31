"""How many cores a process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from htt.cores import cores

ROOT = Path(__file__).resolve().parents[2]
THERE = 64


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 cores; give it SLURM's variables and the files of its cgroups."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(THERE)), raising=False)

    def look(membership="", files=None, **slurm):
        (tmp_path / "membership").write_text(membership)
        for name, text in (files or {}).items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return cores(slurm, tmp_path, tmp_path / "membership")

    return look


def test_cores_without_any_limit_are_all(machine):
    assert machine() == THERE
    assert machine("0::/user.slice\n", {"user.slice/cpu.max": "max 100000"}) == THERE


def test_cores_follow_a_limit_of_cgroup_v2(machine):
    assert machine("0::/\n", {"cpu.max": "800000 100000"}) == 8
    assert machine("0::/\n", {"cpu.max": "150000 100000"}) == 1
    assert machine("0::/\n", {"cpu.max": "50000 100000"}) == 1, "one at least"


def test_cores_follow_the_least_limit_above(machine):
    files = {"jobs/cpu.max": "400000 100000", "jobs/mine/cpu.max": "1600000 100000"}
    assert machine("0::/jobs/mine\n", files) == 4


def test_cores_follow_a_limit_of_cgroup_v1(machine):
    files = {"cpu,cpuacct/docker/1/cpu.cfs_quota_us": "300000", "cpu,cpuacct/docker/1/cpu.cfs_period_us": "100000"}
    assert machine("5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n", files) == 3
    files["cpu,cpuacct/docker/1/cpu.cfs_quota_us"] = "-1"
    assert machine("4:cpu,cpuacct:/docker/1\n", files) == THERE


def test_cores_follow_the_limit_of_a_container_at_its_root(machine):
    files = {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    assert machine("4:cpu,cpuacct:/docker/1\n", files) == 2


def test_cores_follow_a_share_of_slurm(machine):
    job = {"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "8"}
    assert machine(**job) == 8
    assert machine(**job, SLURM_CPUS_PER_TASK="4") == 4
    assert machine(SLURM_CPUS_ON_NODE="8") == THERE, "outside a job"
    assert machine(**{**job, "SLURM_CPUS_ON_NODE": "128"}) == THERE


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_follow_the_affinity():
    words = "import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1]); "
    words += "from htt.cores import cores; print(cores())"
    assert subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True).stdout == "1\n"
