"""Faults of machines: each with what was found, what is wanted, and the remedy.

Pure functions from reports to faults. ``nodes`` collects the reports; ``probe`` makes the checks on each machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from cluster.preflight.probe import is_loopback
from cluster.revision import digest

CLOCK_S = 2.0
"""Largest difference of a clock from the driver's, s: files on shared storage are compared by their times."""
FREE_BYTES = 10**9
"""Free bytes that every disk needs, in addition to the data still to be downloaded."""
NAMED = 3
"""Number of names that a long list shows."""
DRIVER = "driver"
"""Machine name in the report of the process that runs the checks."""

REMEDIES = {
    "answer": "Look into its Ray logs (/tmp/ray/session_latest/logs on that machine), or remove it from the cluster",
    "code": "Send the code with the command: ray job submit --working-dir . -- python ..., or update that machine",
    "versions": "Install the same versions on every machine (cluster/deploy/setup.sh), and restart Ray there",
    "data": "Set data.root to a folder or URI that every machine can read, with the same shards",
    "storage": "Set --storage to a folder shared by all machines, or a URI (s3://, gs://), that they can write to",
    "cache": "Set HTT_CACHE on that machine before Ray starts, or runtime.cache, to a writable folder",
    "disk": "Free some space there, choose another disk, or limit the cache of downloads with runtime.cache_gb",
    "GPUs": "Install torch for that machine's driver (nvidia-smi), or start Ray there with --num-gpus of working GPUs",
    "clock": "Set it by the network: timedatectl set-ntp true",
    "ports": "Open all TCP ports above 1023 between the machines, in firewalls and security groups",
    "address": "Set its network address in /etc/hosts, or set GLOO_SOCKET_IFNAME there before Ray starts",
}
"""Remedy for each check, one sentence."""


@dataclass(frozen=True)
class Requirements:
    """Requirements of a run on the machines."""

    roots: tuple[str, ...] = ()
    """All values of data.root: folders or URIs of shards."""
    cache: str | None = None
    """Value of runtime.cache."""
    cache_gb: float | None = None
    """Value of runtime.cache_gb."""
    storage: str | None = None
    """Folder or URI of results."""
    gpus: bool = True
    """True if GPUs are used."""
    gloo: bool = True
    """True if CPU workers of several machines train together by gloo, which finds each machine by its name."""


@dataclass(frozen=True)
class Report:
    """Results of the checks of one machine."""

    machine: str
    error: str | None = None
    """Reason why the machine did not answer, or None if it did."""
    commit: str = "unknown"
    code: Mapping[str, str] | None = None
    """Digest of each code file."""
    versions: Mapping[str, str] | None = None
    data: Mapping[str, Sequence[Any] | None] = field(default_factory=dict)
    """(digest of the manifest, bytes still to be downloaded) of each data.root."""
    storage: bool = True
    """True if the machine sees the file that the driver wrote to the storage."""
    disks: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """{purpose: (folder, free bytes, device number)}."""
    promised_gpus: float = 0.0
    """Number of GPUs that Ray may allocate on the machine."""
    gpus: Mapping[str, Any] | None = None
    """``{"torch": version, "count": number of GPUs it sees, "faults": [sentence]}``."""
    clock_s: tuple[float, float] = (0.0, 0.0)
    """Lower and upper bound of how far the clock is ahead of the driver's, s."""
    unreachable: Sequence[Sequence[str]] = ()
    """(machine, reason) for each machine that cannot be reached."""
    host_address: Sequence[str] = ("", "")
    """Host name of the machine, and the address that the name resolves to."""
    failed: Sequence[Sequence[str]] = ()
    """(check, error) for each check that failed."""

    @classmethod
    def of(cls, machine: str, results: Mapping[str, Any], **more: Any) -> Report:
        """Return the report of a machine that answered; tolerates missing and unknown fields of other versions."""
        known = {each.name for each in fields(cls)} - {"machine", *more}
        return cls(machine, **{name: value for name, value in results.items() if name in known}, **more)

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON, with one digest of all code."""
        code = self.code and digest(json.dumps(dict(self.code), sort_keys=True).encode())
        return {**asdict(self), "code": code}


@dataclass(frozen=True)
class Fault:
    """Failed check of a machine, with its remedy."""

    machine: str
    check: str
    found: str
    expected: str
    remedy: str


def find_faults(reports: Sequence[Report], driver: Report, required: Requirements) -> list[Fault]:
    """Return every fault of every machine and of the driver; the list is empty if the run can start.

    Args:
        reports: reports of the machines.
        driver: report of the driver; machines must have the same code, libraries and data.
        required: requirements of the run.
    """
    faults = [fault for report in (driver, *reports) for fault in _failed(report, required)]
    faults += [fault for report in (driver, *reports) for fault in _disks(report, required)]
    for report in reports:
        if report.error is not None:
            faults.append(_fault(report, "answer", report.error, "an answer"))
            continue
        faults += [
            *_code(report, driver),
            *_versions(report, driver),
            *_data(report, driver),
            *_storage(report, required),
        ]
        faults += [*_gpus(report, required), *_clock(report), *_ports(report), *_address(report, required)]
    return faults


def _failed(report: Report, required: Requirements) -> Iterator[Fault]:
    expected = {
        "code": "the driver's code",
        "versions": "the driver's versions",
        "data": f"readable data: {', '.join(required.roots)}",
        "storage": f"permission to write, read and remove files in {required.storage}",
        "cache": "a writable folder",
        "disk": "a disk of known size",
        "GPUs": "working GPUs",
        "ports": "connections to the other machines",
        "address": "an address for its host name",
    }
    for check, reason in report.failed:
        yield _fault(report, check, reason, expected[check])


def _code(report: Report, driver: Report) -> Iterator[Fault]:
    if report.code is None or driver.code is None or report.code == driver.code:
        return
    missing = sorted(driver.code.keys() - report.code.keys())
    other = sorted(name for name, digest in report.code.items() if driver.code.get(name) != digest)
    found = [f"{listed(other)} {'differs' if len(other) == 1 else 'differ'}"] if other else []
    found += [f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    expected = f"the driver's code, commit {driver.commit}"
    yield _fault(report, "code", f"{' and '.join(found)}, commit {report.commit}", expected)


def _versions(report: Report, driver: Report) -> Iterator[Fault]:
    if report.versions is None or driver.versions is None:
        return
    names = [name for name, version in driver.versions.items() if report.versions.get(name) != version]
    if names:
        found = ", ".join(f"{name} {report.versions.get(name, 'missing')}" for name in names)
        yield _fault(report, "versions", found, ", ".join(f"{name} {driver.versions[name]}" for name in names))


def _data(report: Report, driver: Report) -> Iterator[Fault]:
    for root, found in report.data.items():
        expected = driver.data.get(root)
        if found and expected and found[0] != expected[0]:
            yield _fault(report, "data", f"{root} has manifest {found[0]}", f"the driver's, {expected[0]}")


def _storage(report: Report, required: Requirements) -> Iterator[Fault]:
    if not report.storage:
        found = f"{required.storage} does not contain the file that the driver wrote"
        yield _fault(report, "storage", found, "one folder shared by all machines")


def _disks(report: Report, required: Requirements) -> Iterator[Fault]:
    """Yield at most one fault for each disk, for the purpose that needs the most space; downloads go to the cache."""
    download = sum(data[1] for data in report.data.values() if data)
    download = min(download, round(required.cache_gb * 1e9)) if required.cache_gb else download
    short: dict[Any, tuple[int, str]] = {}
    for purpose, (folder, free, disk) in report.disks.items():
        expected = FREE_BYTES + (download if purpose == "cache" else 0)
        if free < expected and expected > short.get(disk, (0, ""))[0]:
            short[disk] = expected, f"{free / 1e9:.1f} GB free for {purpose}, in {folder}"
    for expected, found in short.values():
        yield _fault(report, "disk", found, f"{expected / 1e9:.1f} GB")


def _gpus(report: Report, required: Requirements) -> Iterator[Fault]:
    if not required.gpus or report.gpus is None:
        return
    count, promised = report.gpus["count"], report.promised_gpus
    if count < promised:
        found = f"torch {report.gpus['torch']} finds {count}"
        yield _fault(report, "GPUs", found, f"the {promised:g} that Ray may allocate")
    for fault in report.gpus["faults"]:
        yield _fault(report, "GPUs", fault, "working GPUs")


def _clock(report: Report) -> Iterator[Fault]:
    least, most = report.clock_s
    expected = f"within {CLOCK_S:g} s of the driver's"
    if least > CLOCK_S:
        yield _fault(report, "clock", f"{least:.1f} s ahead", expected)
    elif most < -CLOCK_S:
        yield _fault(report, "clock", f"{-most:.1f} s behind", expected)


def _ports(report: Report) -> Iterator[Fault]:
    if report.unreachable:
        found = f"cannot connect to {listed([f'{name} ({reason})' for name, reason in report.unreachable])}"
        yield _fault(report, "ports", found, "connections to the other machines")


def _address(report: Report, required: Requirements) -> Iterator[Fault]:
    name, address = report.host_address
    if required.gloo and is_loopback(address):
        yield _fault(
            report, "address", f"its host name {name} resolves to {address}", "an address that other machines can reach"
        )


def _fault(report: Report, check: str, found: str, expected: str) -> Fault:
    return Fault(report.machine, check, found, expected, f"{REMEDIES[check]}.")


def listed(names: Sequence[str]) -> str:
    """Return a list of names for a sentence, such as ``a, b, c and 4 more``."""
    if len(names) <= NAMED + 1:
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
