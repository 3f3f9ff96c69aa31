"""Cluster of hosts made of namespaces, made and used by the commands of ``docs/cluster.md``.

A host more, the laptop, is where it is typed: in the project's folder, with ``on_premises.yaml`` edited there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hosts import HOME, ROOT, Hosts

LAPTOP = "laptop"
FILE = "cluster/deploy/on_premises.yaml"
EXPORTS = "export RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS=http://127.0.0.1:8265"
UP_S = 600.0
JOB_S = 900.0


SUBMIT = "ray job submit --working-dir . --"
NODES = """python -c '
import pathlib, urllib.request as r
token = pathlib.Path("~/.ray/auth_token").expanduser().read_text().strip()
address = "http://127.0.0.1:8265/api/v0/nodes?limit=100"
print(r.urlopen(r.Request(address, headers={"Authorization": f"Bearer {token}"}), timeout=100).read().decode())'"""
"""What ``ray list nodes`` asks, without the seconds of a core that Ray takes to load: it is asked again and again."""


class Job:
    """Submitted job: the process on the laptop that watches it."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        """Watch it."""
        self.process, self._output = process, output

    def said(self) -> str:
        """Return what it has printed so far."""
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, condition: Callable[[], object], seconds: float = JOB_S) -> None:
        """Wait until a condition holds while the job runs."""
        wait(lambda: self.process.poll() is not None or condition(), self.said, seconds)
        if self.process.poll() is not None and not condition():
            raise AssertionError(f"The job has ended:\n{self.said()}")

    def ended(self, seconds: float = JOB_S) -> str:
        """Return what it has printed; it must end well."""
        wait(lambda: self.process.poll() is not None, self.said, seconds)
        if self.process.returncode:
            raise AssertionError(f"The job left with {self.process.returncode}:\n{self.said()}")
        return self.said()


def wait(condition: Callable[[], object], said: Callable[[], str], seconds: float, every_s: float = 0.2) -> None:
    """Wait until a condition holds, which is checked every ``every_s``.

    Raises:
        AssertionError: it does not in time; the message is what ``said`` gives.
    """
    ends = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends:
            raise AssertionError(f"Not within {seconds:g} s:\n{said()}")
        time.sleep(every_s)


class Cluster:
    """Hosts and the commands typed on the laptop; a context manager within which the hosts run."""

    def __init__(self, shared: Path, workers: int = 2, cpus: int = 1) -> None:
        """Name the hosts: ``head``, ``node1`` and so on.

        Args:
            shared: the folder of this machine that all of them share.
            workers: hosts beside the head.
            cpus: that each offers.
        """
        self.head = "head"
        self.workers = [f"node{number}" for number in range(1, workers + 1)]
        self.shared = shared
        self.hosts = Hosts([LAPTOP, self.head, *self.workers], shared)
        self._offer = f"--num-cpus={cpus}"
        self._dashboard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Cluster:
        self.hosts.__enter__()
        self.hosts.give_key(LAPTOP)
        profile = self.hosts.file(LAPTOP, f"{HOME}/.profile")
        with profile.open("a", encoding="utf-8") as file:
            file.write(f"export PATH={Path(sys.prefix).resolve()}/bin:$PATH\n")
        self._edit()
        return self

    def __exit__(self, *_: object) -> None:
        self.hosts.__exit__()

    def type(self, command: str, *, seconds: float = 300.0, code: int = 0) -> str:
        """Return the output of a command typed on the laptop in the project's folder; see ``Hosts.run``."""
        return self.hosts.run(LAPTOP, f"{EXPORTS} && {command}", cwd=ROOT, seconds=seconds, code=code)

    def make_token(self) -> str:
        """Make the token: the first command of all."""
        return self.type("python -m cluster.make_token")

    def up(self) -> str:
        """Make the cluster, or make it again; it returns before the workers are there."""
        return self.type(f"ray up {FILE} --yes --no-config-cache", seconds=UP_S)

    def down(self) -> str:
        """End the cluster."""
        return self.type(f"ray down {FILE} --yes", seconds=UP_S)

    def open_dashboard(self) -> None:
        """Start ``ray dashboard``, through which jobs go, and leave it open; again if its head is gone."""
        if self._dashboard is not None:
            self._dashboard.kill()
        words = f"{EXPORTS} && exec ray dashboard {FILE}"
        self._dashboard = self.hosts.open(LAPTOP, words, cwd=ROOT)
        self.hosts.wait_for_port(LAPTOP, 8265)

    def nodes(self) -> dict[str, str]:
        """Return {host: ALIVE or DEAD} of the hosts that ever were in this cluster."""
        listed = json.loads(self.type(NODES))["data"]["result"]["result"]
        names = {address: name for name, address in self.hosts.addresses.items()}
        known = sorted((names[node["node_ip"]], node["state"]) for node in listed)
        return {name: min(state for other, state in known if other == name) for name, _ in known}

    def wait_for_nodes(self, alive: int, seconds: float = UP_S) -> None:
        """Wait until so many hosts are in the cluster."""
        there = lambda: list(self.nodes().values()).count("ALIVE") == alive  # noqa: E731
        wait(there, lambda: str(self.nodes()), seconds, every_s=1.0)

    def submit(self, command: str, *, seconds: float = JOB_S, code: int = 0) -> str:
        """Submit a job from the laptop with the project's folder; return its output."""
        return self.type(f"{SUBMIT} python {command}", seconds=seconds, code=code)

    def start(self, command: str, output: Path) -> Job:
        """Submit a job the same way and return at once; it prints into a file."""
        words = f"{EXPORTS} PYTHONUNBUFFERED=1 && {SUBMIT} python {command}"  # else Ray shows it in blocks
        return Job(self.hosts.open(LAPTOP, words, cwd=ROOT, output=output), output)

    def _edit(self) -> None:
        """Fill in the user's lines of the file, and how many CPUs a host offers."""
        first, *others = (self.hosts.addresses[name] for name in (self.head, *self.workers))
        prefix = Path(sys.prefix).resolve()
        mine = {
            "head_ip: 192.0.2.11": f"head_ip: {first}",
            "worker_ips: [192.0.2.12, 192.0.2.13]": f"worker_ips: [{', '.join(others)}]",
            "ssh_user: ubuntu": "ssh_user: root",
            "setup.sh python3.12": f"setup.sh python3 {prefix}",
            "--object-store-memory=": f"{self._offer} --object-store-memory=",
            "ray start --": "RAY_raylet_start_wait_time_s=600 ray start --",  # enough on a loaded machine
        }
        file = self.hosts.file(LAPTOP, ROOT / FILE)
        text = file.read_text(encoding="utf-8")
        for theirs, ours in mine.items():
            if theirs not in text:
                raise AssertionError(f"{FILE} has no '{theirs}'")
            text = text.replace(theirs, ours)
        file.write_text(text, encoding="utf-8")
