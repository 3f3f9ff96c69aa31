"""Faults of machines: each with what was found, what is wanted, and the remedy.

Pure functions from reports to faults. ``nodes`` collects the reports; ``probe`` makes the checks on each machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from cluster.preflight.probe import is_loopback

CLOCK_S = 2.0
"""Largest difference of a clock from the driver's, s: files on shared storage are compared by their times."""
FREE_BYTES = 10**9
"""Free bytes that every disk needs, in addition to the data still to be downloaded."""
NAMED = 3
"""Number of names that a long list shows."""
DRIVER = "driver"
"""Machine name in the report of the process that runs the checks."""

ALIKE = "Set every machine up alike (cluster/deploy/setup.sh) and start Ray on it again"
REMEDIES = {
    "answer": "See why in its Ray logs (there, in /tmp/ray/session_latest/logs), or take it out of the cluster",
    "code": "Send the code with the command: ray job submit --working-dir . -- python ..., or update that machine",
    "versions": ALIKE,
    "data": "data.root must be a folder or URI that every machine has at that place, with the same shards",
    "storage": "Give --storage a folder that all machines share, or a URI (s3://, gs://), that they may write to",
    "cache": "Set HTT_CACHE there before Ray starts, or runtime.cache, to a folder that can be written",
    "disk": "Free some space there, choose another disk, or bound the cache of downloads with runtime.cache_gb",
    "GPUs": "Install a torch for that machine's driver (nvidia-smi), or start its Ray with the --num-gpus that work",
    "clock": "Set it by the network: timedatectl set-ntp true",
    "ports": "Open all TCP ports above 1023 between the machines, in firewalls and security groups",
    "address": "Give its name its network address in /etc/hosts, or set GLOO_SOCKET_IFNAME there before Ray starts",
}
"""Remedy for each check, one sentence."""


@dataclass(frozen=True)
class Need:
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
    silence: str | None = None
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
    heard_at: Sequence[str] = ("", "")
    """Host name of the machine, and the address that the name resolves to."""
    refusals: Sequence[Sequence[str]] = ()
    """(check, error) for each check that failed."""

    @classmethod
    def of(cls, machine: str, plain: Mapping[str, Any], **more: Any) -> Report:
        """Return the report of a machine that answered; tolerates missing and unknown fields of other versions."""
        known = {each.name for each in fields(cls)} - {"machine", *more}
        return cls(machine, **{name: value for name, value in plain.items() if name in known}, **more)


@dataclass(frozen=True)
class Fault:
    """Failed check of a machine, with its remedy."""

    machine: str
    check: str
    found: str
    wanted: str
    remedy: str


def judge(reports: Sequence[Report], driver: Report, need: Need) -> list[Fault]:
    """Return every fault of every machine and of the driver; the list is empty if the run can start.

    Args:
        reports: reports of the machines.
        driver: report of the driver; machines must have the same code, libraries and data.
        need: requirements of the run.
    """
    faults = [fault for report in (driver, *reports) for fault in _refusals(report, need)]
    faults += [fault for report in (driver, *reports) for fault in _disks(report, need)]
    for report in reports:
        if report.silence is not None:
            faults.append(_fault(report, "answer", report.silence, "an answer"))
            continue
        faults += [*_code(report, driver), *_versions(report, driver), *_data(report, driver), *_storage(report, need)]
        faults += [*_gpus(report, need), *_clock(report), *_ports(report), *_address(report, need)]
    return faults


def _refusals(report: Report, need: Need) -> Iterator[Fault]:
    wanted = {
        "code": "the driver's code",
        "versions": "the driver's versions",
        "data": f"data that can be read: {', '.join(need.roots)}",
        "storage": f"files can be written, read and removed in {need.storage}",
        "cache": "a folder that can be written",
        "disk": "a disk whose space is known",
        "GPUs": "GPUs that compute",
        "ports": "the other machines within reach",
        "address": "an address by its name",
    }
    for check, why in report.refusals:
        yield _fault(report, check, why, wanted[check])


def _code(report: Report, driver: Report) -> Iterator[Fault]:
    if report.code is None or driver.code is None or report.code == driver.code:
        return
    lacks = sorted(driver.code.keys() - report.code.keys())
    other = sorted(name for name, digest in report.code.items() if driver.code.get(name) != digest)
    words = [f"{some(other)} {'differs' if len(other) == 1 else 'differ'}"] if other else []
    words += [f"{some(lacks)} {'is' if len(lacks) == 1 else 'are'} missing"] if lacks else []
    wanted = f"the driver's code, commit {driver.commit}"
    yield _fault(report, "code", f"{' and '.join(words)}, commit {report.commit}", wanted)


def _versions(report: Report, driver: Report) -> Iterator[Fault]:
    if report.versions is None or driver.versions is None:
        return
    names = [name for name, version in driver.versions.items() if report.versions.get(name) != version]
    if names:
        found = ", ".join(f"{name} {report.versions.get(name, 'missing')}" for name in names)
        yield _fault(report, "versions", found, ", ".join(f"{name} {driver.versions[name]}" for name in names))


def _data(report: Report, driver: Report) -> Iterator[Fault]:
    for root, seen in report.data.items():
        wanted = driver.data.get(root)
        if seen and wanted and seen[0] != wanted[0]:
            yield _fault(report, "data", f"{root} has manifest {seen[0]}", f"the driver's, {wanted[0]}")


def _storage(report: Report, need: Need) -> Iterator[Fault]:
    if not report.storage:
        found = f"{need.storage} there does not hold what the driver wrote"
        yield _fault(report, "storage", found, "one folder for all machines")


def _disks(report: Report, need: Need) -> Iterator[Fault]:
    """Yield at most one fault for each disk, for the purpose that needs the most space; downloads go to the cache."""
    to_come = sum(seen[1] for seen in report.data.values() if seen)
    to_come = min(to_come, round(need.cache_gb * 1e9)) if need.cache_gb else to_come
    short: dict[Any, tuple[int, str]] = {}
    for what, (folder, free, disk) in report.disks.items():
        wanted = FREE_BYTES + (to_come if what == "cache" else 0)
        if free < wanted and wanted > short.get(disk, (0, ""))[0]:
            short[disk] = wanted, f"{free / 1e9:.1f} GB free for {what}, in {folder}"
    for wanted, found in short.values():
        yield _fault(report, "disk", found, f"{wanted / 1e9:.1f} GB")


def _gpus(report: Report, need: Need) -> Iterator[Fault]:
    if not need.gpus or report.gpus is None:
        return
    count, promised = report.gpus["count"], report.promised_gpus
    if count < promised:
        yield _fault(
            report, "GPUs", f"torch {report.gpus['torch']} sees {count}", f"the {promised:g} that Ray promises"
        )
    for fault in report.gpus["faults"]:
        yield _fault(report, "GPUs", fault, "GPUs that compute")


def _clock(report: Report) -> Iterator[Fault]:
    least, most = report.clock_s
    wanted = f"within {CLOCK_S:g} s of the driver's"
    if least > CLOCK_S:
        yield _fault(report, "clock", f"{least:.1f} s ahead", wanted)
    elif most < -CLOCK_S:
        yield _fault(report, "clock", f"{-most:.1f} s behind", wanted)


def _ports(report: Report) -> Iterator[Fault]:
    if report.unreachable:
        found = f"cannot reach {some([f'{name} ({why})' for name, why in report.unreachable])}"
        yield _fault(report, "ports", found, "the other machines within reach")


def _address(report: Report, need: Need) -> Iterator[Fault]:
    name, address = report.heard_at
    if need.gloo and is_loopback(address):
        yield _fault(report, "address", f"its name, {name}, is {address}", "an address that other machines reach")


def _fault(report: Report, check: str, found: str, wanted: str) -> Fault:
    return Fault(report.machine, check, found, wanted, f"{REMEDIES[check]}.")


def some(names: Sequence[str]) -> str:
    """Return a list of names for a sentence, such as ``a, b, c and 4 more``."""
    if len(names) <= NAMED + 1:
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
