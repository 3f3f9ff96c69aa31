"""Check the machines before anything starts on them.

::

    python -m cluster.preflight                                                  # this machine
    python -m cluster.preflight --address auto --config best.yaml --storage s3://bucket/runs
    ray job submit --address http://127.0.0.1:8265 --working-dir . -- python -m cluster.preflight --storage /shared/runs

Every machine must run the same code and libraries, read the data, write the results, compute on the GPUs that Ray
promises, agree on the time, reach the other machines and have free disk space. All faults are reported together, each
with its remedy. Searches, studies and final trainings make the same checks before they start; on a single machine they
print nothing if all is well.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from rich.console import Console
from rich.table import Table

from cluster import connect, revision
from cluster.preflight import faults as checks
from cluster.preflight import nodes, probe
from cluster.preflight.faults import DRIVER, Fault, Need, Report, judge
from cluster.preflight.nodes import Node
from cluster.revision import digest
from cluster.storage import absolute_uri, open_uri
from htt import console
from htt.config import BackboneConfig, Config, override, parse_set, read
from htt.data.store.remote import refuse_password
from htt.errors import ClusterError, ConfigError, UserError
from htt.registry import is_free, preset
from htt.text import plural

WIDTH = 160
"""Width of the table of faults if the output is not a terminal."""


@dataclass
class Options(console.Options):
    """Check that every machine of a cluster is ready; exits with 2 if one is not."""

    config: console.File = None
    """What will be trained, such as runs/<name>/best.yaml: its data must be there (default: no data are checked)."""
    preset: console.Word = None
    """Or one by its name, a module of htt/presets."""
    set: console.Assignments = field(default_factory=list)
    """Change a field, as in --set data.root=/data/h2o-shards; repeat for more."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) that all machines must be able to write to."""
    address: console.Word = None
    """A Ray cluster to join, "auto" or host:port (default: this machine)."""
    json: bool = False
    """Print all that the machines say, as JSON."""


def main(options: Options) -> None:
    """Check the machines and print the result."""
    if options.config and options.preset:
        raise ConfigError("One configuration is trained: name it with --config or with --preset, not with both.")
    start = read(options.config) if options.config else preset(options.preset) if options.preset else Config()
    config = override(start, parse_set(options.set))
    with connect.connect(options.address):
        there = nodes.nodes()
        need = need_of([config], there, storage=options.storage)
        driver, reports = ask(there, need)
    faults = judge(reports, driver, need)
    if options.json:
        said = {"driver": plain(driver), "machines": list(map(plain, reports)), "faults": list(map(asdict, faults))}
        console.out.print_json(json.dumps(said))
    raise_faults(faults)
    if not options.json:
        console.out.print(all_well(there, need), markup=False)


def plain(report: Report) -> dict[str, Any]:
    """Return a report as plain data for JSON, with one digest of all code."""
    code = report.code and digest(json.dumps(dict(report.code), sort_keys=True).encode())
    return {**asdict(report), "code": code}


def check(configs: Sequence[Config], *, storage: str, workers: int, gpus: float, show: Console = console.out) -> None:
    """Check the machines of the connected cluster for a search, a study or a training.

    A single machine is checked in this process, without output: there is nothing to compare it with, and its data are
    checked by the next step, which prepares them.

    Args:
        configs: configurations to train: one for each data set.
        storage: folder or URI of the results.
        workers: workers of one trial or training.
        gpus: GPUs of each worker.
        show: console for the message that all machines are ready.

    Raises:
        ClusterError: a machine is not ready; lists every fault of every machine, with its remedy.
    """
    there = nodes.nodes()
    need = need_of(configs, there, storage=storage, workers=workers, gpus=gpus)
    if len(there) == 1 and there[0].id == nodes.here():
        alone = ask_here(there[0], need)
        raise_faults(judge([alone], Report(DRIVER), need))
        return
    driver, reports = ask(there, need)
    raise_faults(judge(reports, driver, need))
    show.print(all_well(there, need), markup=False)


def check_backbones(configs: Iterable[BackboneConfig], *, one_is_enough: bool = False) -> None:
    """Build the backbones whose network or weights come from elsewhere, to find errors before the start.

    Args:
        configs: backbones of all configurations to train.
        one_is_enough: raise only if none can be built, as for a search, which continues without the others.

    Raises:
        ConfigError, CheckpointError: error of the first backbone that cannot be built.
    """
    faults, built = [], 0
    for config in dict.fromkeys(configs):
        if config.weights is None and not is_free(config.name):
            built += 1
            continue
        from htt.model.features import open_backbone  # imported late: most runs need no torch in this process

        try:
            open_backbone(config)
            built += 1
        except UserError as error:
            faults.append(error)
    if faults and not (one_is_enough and built):
        raise faults[0]


@dataclass(frozen=True)
class Newcomers:
    """Check that every worker of a training calls when it starts, for machines that joined after the first check."""

    known: frozenset[str]
    """IDs of the machines that were checked before."""
    driver: Report
    """Report of the driver, with which machines are compared."""
    need: Need
    mark: str
    """Name of a file that the run has in its storage."""

    def __call__(self) -> None:
        """Check this machine, once for all its workers, if it was not checked before.

        Raises:
            ClusterError: the machine is not ready; lists its faults.
        """
        import ray.train  # imported late: the driver does not need it

        if nodes.here() in self.known or ray.train.get_context().get_local_rank():
            return
        name = socket.gethostname()
        said = probe.look({**_asked(self.need, self.mark), "gpus": False, "peers": []})
        raise_faults(judge([Report.of(name, said)], self.driver, self.need))


def newcomers(config: Config, *, storage: str, mark: str, workers: int, gpus: float) -> Newcomers:
    """Return the check for machines that a cloud starts on demand; call it before ``check``.

    Args:
        config: configuration to train.
        storage: folder or URI of the results.
        mark: name of a file that is in the storage when workers start.
        workers: workers of the training.
        gpus: GPUs of each worker.
    """
    there = nodes.nodes()
    alike = {"code": revision.digests(), "commit": revision.commit(), "versions": revision.versions()}
    need = need_of([config], there, storage=storage, workers=workers, gpus=gpus)
    return Newcomers(frozenset(node.id for node in there), Report.of(DRIVER, alike), need, mark)


def need_of(
    configs: Sequence[Config],
    there: Sequence[Node],
    *,
    storage: str,
    workers: int | None = None,
    gpus: float | None = None,
) -> Need:
    """Return what a run of these configurations needs; None for workers or GPUs means any number.

    Raises:
        ConfigError: a URI contains a password.
    """
    roots = tuple(dict.fromkeys(config.data.root for config in configs if config.data.root))
    for root in roots:
        refuse_password(root, "data.root")
    on_gpus = gpus > 0 if gpus is not None else any(node.gpus for node in there)
    together = (workers is None or workers > 1) and len({node.address for node in there}) > 1
    return Need(
        roots=roots,
        cache=configs[0].runtime.cache,
        cache_gb=configs[0].runtime.cache_gb,
        storage=absolute_uri(storage),
        gpus=on_gpus,
        gloo=together and not on_gpus,
    )


def ask(there: Sequence[Node], need: Need) -> tuple[Report, list[Report]]:
    """Return the report of the driver (this process) and the reports of all machines."""
    with marked(need.storage) as mark:
        driver = Report.of(DRIVER, probe.look({**_asked(need, mark), "gpus": 0, "peers": []}))
        return driver, nodes.gather(there, _asked(need, mark))


def ask_here(node: Node, need: Need) -> Report:
    """Return the report of this machine, limited to the checks of a single machine."""
    with marked(need.storage) as mark:
        said = probe.look({**_asked(need, mark), "compare": False, "roots": (), "gpus": 0, "peers": []})
    gpus = probe.count_gpus() if need.gpus and node.gpus else None
    return Report.of(node.name, {**said, "gpus": gpus}, promised_gpus=node.gpus)


@contextlib.contextmanager
def marked(storage: str | None) -> Iterator[str | None]:
    """Yield the name of a file in the storage, or None if it cannot be written; remove the file after the block.

    A missing folder is made for it, and removed again if it is empty.
    """
    if storage is None:
        yield None
        return
    mark = f"{probe.MARK}{uuid.uuid4().hex[:8]}"
    made: list[Path] = []
    try:
        if "://" not in storage:
            folder = Path(storage)
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        system, path = open_uri(storage)
        with system.open_output_stream(f"{path}/{mark}") as out:
            out.write(b"ok")
    except (OSError, ValueError, ArrowException):
        yield None  # the driver's own report has this fault
        return
    try:
        yield mark
    finally:
        with contextlib.suppress(OSError, ArrowException):  # another run uses the folder, or the storage is gone
            system.delete_file(f"{path}/{mark}")
            for folder in made:
                folder.rmdir()


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise a ``ClusterError`` if there are faults: one as a sentence, several as a table."""
    if len(faults) == 1:
        fault = faults[0]
        raise ClusterError(
            f"Every machine must be ready; {fault.machine} is not. {fault.check}: {fault.found}; "
            f"wanted: {fault.wanted}. {fault.remedy}"
        )
    if faults:
        raise ClusterError(f"Every machine must be ready; there are {len(faults)} faults:\n{table(faults)}")


def table(faults: Sequence[Fault], width: int | None = None) -> str:
    """Return the faults as a text table; equal faults of several machines share one row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for fault in faults:
        same = rows.setdefault((fault.check, fault.found, fault.wanted, fault.remedy), [])
        same.extend([fault.machine] if fault.machine not in same else [])
    shown = Table(box=None, pad_edge=False)
    for head in ("Machine", "Check", "Found", "Wanted", "Remedy"):
        shown.add_column(head, overflow="fold")
    for cells, machines in rows.items():
        shown.add_row(checks.some(machines), *cells)
    text = io.StringIO()
    width = width or (console.err.width if console.err.is_terminal else WIDTH)
    console.Screen(file=text, width=width).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def all_well(there: Sequence[Node], need: Need) -> str:
    """Return the line that says that all machines are ready."""
    gpus = sum(node.gpus for node in there)
    count = f"{plural(len(there), 'machine')}, {gpus:g} GPU{'s' if gpus != 1 else ''}"
    return f"{count}: same code and versions, {'data and ' if need.roots else ''}storage reachable."


def _asked(need: Need, mark: str | None) -> dict[str, Any]:
    plain: dict[str, Any] = {"roots": list(need.roots), "cache": need.cache, "storage": need.storage}
    return {**plain, "mark": mark, "gpus": need.gpus, "compare": True}
