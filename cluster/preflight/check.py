"""Checks of all machines of a cluster before a search, a study or a training starts.

Every machine must run the same code and libraries, read the data, write the results, compute on the GPUs that Ray
promises, agree on the time, reach the other machines and have free disk space. All faults are reported together, each
with its remedy. On a single machine nothing is printed if it is ready.

Arguments of this module: ``configs`` are the configurations to train, one for each data set; ``storage`` is the folder
or URI of the results; ``workers`` the number of workers of one trial or training, and ``gpus`` the GPUs of each.
"""

from __future__ import annotations

import contextlib
import io
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from rich.console import Console
from rich.table import Table

from cluster import revision
from cluster.preflight import nodes, probe
from cluster.preflight.faults import DRIVER, Fault, Report, Requirements, find_faults, listed
from cluster.preflight.nodes import Node
from cluster.storage import absolute_uri, open_uri
from htt import console
from htt.config import BackboneConfig, Config
from htt.data.store.remote import refuse_password
from htt.errors import ClusterError, UserError
from htt.registry import is_free
from htt.text import plural

WIDTH = 160
"""Width of the table of faults if the output is not a terminal."""


def check(configs: Sequence[Config], *, storage: str, workers: int, gpus: float, show: Console = console.out) -> None:
    """Check the machines of the connected cluster for a search, a study or a training.

    A single machine is checked in this process, without output: there is nothing to compare it with, and its data are
    checked by the next step, which prepares them.

    Raises:
        ClusterError: a machine is not ready; lists every fault of every machine, with its remedy.
    """
    machines = nodes.nodes()
    required = requirements(configs, machines, storage=storage, workers=workers, gpus=gpus)
    if len(machines) == 1 and machines[0].id == nodes.this_node():
        raise_faults(find_faults([_report_here(machines[0], required)], Report(DRIVER), required))
        return
    driver, reports = collect(machines, required)
    raise_faults(find_faults(reports, driver, required))
    show.print(ready_message(machines, required), markup=False)


def check_backbones(configs: Iterable[BackboneConfig], *, one_is_enough: bool = False) -> None:
    """Build the backbones whose network or weights come from elsewhere, to find errors before the start.

    With ``one_is_enough`` it raises only if none can be built, as for a search, which continues without the others.

    Raises:
        ConfigError, CheckpointError: error of the first backbone that cannot be built.
    """
    errors, built = [], 0
    for config in dict.fromkeys(configs):
        if config.weights is None and not is_free(config.name):
            built += 1
            continue
        from htt.model.features import open_backbone  # imported late: most runs need no torch in this process

        try:
            open_backbone(config)
            built += 1
        except UserError as error:
            errors.append(error)
    if errors and not (one_is_enough and built):
        raise errors[0]


@dataclass(frozen=True)
class WorkerCheck:
    """Check that every worker of a training runs when it starts, for machines that joined after the first check."""

    known: frozenset[str]
    """IDs of the machines that were checked before."""
    driver: Report
    """Report of the driver, with which machines are compared."""
    required: Requirements
    mark: str
    """Name of a file that the run has in its storage."""

    def __call__(self) -> None:
        """Check this machine, once for all its workers, if it was not checked before.

        Raises:
            ClusterError: the machine is not ready; lists its faults.
        """
        import ray.train  # imported late: the driver does not need it

        if nodes.this_node() in self.known or ray.train.get_context().get_local_rank():
            return
        results = probe.run({**_request(self.required, self.mark), "gpus": 0, "peers": []})
        raise_faults(find_faults([Report.of(socket.gethostname(), results)], self.driver, self.required))


def worker_check(config: Config, *, storage: str, mark: str, workers: int, gpus: float) -> WorkerCheck:
    """Return the check for machines that join later, such as those a cloud starts on demand; call it before ``check``.

    The file ``mark`` must be in the storage when workers start.
    """
    machines = nodes.nodes()
    compared = {"code": revision.digests(), "commit": revision.commit(), "versions": revision.versions()}
    required = requirements([config], machines, storage=storage, workers=workers, gpus=gpus)
    return WorkerCheck(frozenset(node.id for node in machines), Report.of(DRIVER, compared), required, mark)


def requirements(
    configs: Sequence[Config],
    machines: Sequence[Node],
    *,
    storage: str,
    workers: int | None = None,
    gpus: float | None = None,
) -> Requirements:
    """Return the requirements of a run of these configurations; None for workers or GPUs means any number.

    Raises:
        ConfigError: a URI contains a password.
    """
    roots = tuple(dict.fromkeys(config.data.root for config in configs if config.data.root))
    for root in roots:
        refuse_password(root, "data.root")
    on_gpus = gpus > 0 if gpus is not None else any(node.gpus for node in machines)
    together = (workers is None or workers > 1) and len({node.address for node in machines}) > 1
    return Requirements(
        roots=roots,
        cache=configs[0].runtime.cache,
        cache_gb=configs[0].runtime.cache_gb,
        storage=absolute_uri(storage),
        gpus=on_gpus,
        gloo=together and not on_gpus,
    )


def collect(machines: Sequence[Node], required: Requirements) -> tuple[Report, list[Report]]:
    """Return the report of the driver (this process) and the reports of all machines."""
    with marked(required.storage) as mark:
        request = _request(required, mark)
        driver = Report.of(DRIVER, probe.run({**request, "gpus": 0, "peers": []}))
        return driver, nodes.gather(machines, request)


def _report_here(node: Node, required: Requirements) -> Report:
    """Return the report of this machine, limited to the checks of a single machine."""
    with marked(required.storage) as mark:
        request = _request(required, mark)
        results = probe.run({**request, "compare": False, "roots": (), "gpus": 0, "peers": []})
    gpus = probe.count_gpus() if required.gpus and node.gpus else None
    return Report.of(node.name, {**results, "gpus": gpus}, promised_gpus=node.gpus)


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
            f"{fault.machine} is not ready. {fault.check}: {fault.found}; expected {fault.expected}. {fault.remedy}"
        )
    if faults:
        raise ClusterError(f"The machines are not ready; {len(faults)} faults:\n{table(faults)}")


def table(faults: Sequence[Fault], width: int | None = None) -> str:
    """Return the faults as a text table; equal faults of several machines share one row."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for fault in faults:
        same = rows.setdefault((fault.check, fault.found, fault.expected, fault.remedy), [])
        same.extend([fault.machine] if fault.machine not in same else [])
    grid = Table(box=None, pad_edge=False)
    for head in ("Machine", "Check", "Found", "Expected", "Remedy"):
        grid.add_column(head, overflow="fold")
    for cells, machines in rows.items():
        grid.add_row(listed(machines), *cells)
    text = io.StringIO()
    width = width or (console.err.width if console.err.is_terminal else WIDTH)
    console.Screen(file=text, width=width).print(grid)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def ready_message(machines: Sequence[Node], required: Requirements) -> str:
    """Return the line that says that all machines are ready."""
    gpus = sum(node.gpus for node in machines)
    count = f"{plural(len(machines), 'machine')}, {gpus:g} GPU{'s' if gpus != 1 else ''}"
    return f"{count}: same code and versions, {'data and ' if required.roots else ''}storage reachable."


def _request(required: Requirements, mark: str | None) -> dict[str, Any]:
    """Return the request for ``probe.run``."""
    request: dict[str, Any] = {"roots": list(required.roots), "cache": required.cache, "storage": required.storage}
    return {**request, "mark": mark, "gpus": required.gpus, "compare": True}
