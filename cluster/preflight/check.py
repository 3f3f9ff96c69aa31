"""Check the machines before anything starts on them.

::

    python -m cluster.preflight                                                  # this machine
    python -m cluster.preflight --address auto --config best.yaml --storage s3://bucket/runs
    ray job submit --address http://127.0.0.1:8265 --working-dir . -- python -m cluster.preflight --storage /shared/runs

Every machine must run the same code and libraries, read the data, write the results, compute on the GPUs that Ray
promises, agree on the time, reach the others and have space on its disks. All that is amiss is told at once, with its
remedy. Searches, studies and final trainings do the same before they begin; on a machine that is alone, in silence.
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
from cluster import storage as stores
from cluster.preflight import faults as checks
from cluster.preflight import nodes, probe
from cluster.preflight.faults import DRIVER, Fault, Need, Report, judge
from cluster.preflight.nodes import Node
from cluster.revision import digest
from htt import console
from htt.config import BackboneConfig, Config, override, parse_set, read
from htt.data.store.remote import refuse_password
from htt.errors import ClusterError, ConfigError, UserError
from htt.registry import is_free, preset

WIDTH = 160
"""Of the table where the output is no terminal."""


@dataclass
class Options(console.Options):
    """Check that every machine of a cluster is ready; leaves with 2 where one is not."""

    config: Path | None = None
    """What will be trained, such as runs/<name>/best.yaml: its data must be there; none: no data are looked for."""
    preset: str | None = None
    """Or one by its name, a module of htt/presets."""
    set: console.Assignments = field(default_factory=list)
    """Change a field, as in --set data.root=/data/h2o-shards; repeat for more."""
    storage: str = "runs"
    """Folder or URI (s3://, gs://) that all machines must be able to write to."""
    address: str | None = None
    """A Ray cluster to join ("auto" or host:port); none: this machine."""
    json: bool = False
    """Print all that the machines say, as JSON."""


def main(options: Options) -> None:
    """Look, and say what was found."""
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
    """A report for JSON, with one digest of all code."""
    code = report.code and digest(json.dumps(dict(report.code), sort_keys=True).encode())
    return {**asdict(report), "code": code}


def check(configs: Sequence[Config], *, storage: str, workers: int, gpus: float, show: Console = console.out) -> None:
    """Check the machines that this process is connected to, for a search, a study or a training.

    A machine that is alone is asked in this process, and nothing is said; it is compared with nobody, and its data are
    looked at by whoever makes them ready next.

    Args:
        configs: what will be trained: one for each of the data that are needed.
        storage: folder or URI of the results.
        workers: of a trial or training.
        gpus: that each is given.
        show: where it is said that all is well.

    Raises:
        ClusterError: lists every fault of every machine, with its remedy.
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
    """Build the encoders whose network or weights come from elsewhere, so that what cannot be had is known at once.

    Args:
        configs: of all that is to be trained.
        one_is_enough: raise only where none of them can be built, as for a search, which goes on without the others.

    Raises:
        ConfigError, CheckpointError: of the first that cannot be built.
    """
    faults, built = [], 0
    for config in dict.fromkeys(configs):
        if config.weights is None and not is_free(config.name):
            built += 1
            continue
        from htt.model.features import open_backbone  # late: most runs need no torch in this process

        try:
            open_backbone(config)
            built += 1
        except UserError as error:
            faults.append(error)
    if faults and not (one_is_enough and built):
        raise faults[0]


@dataclass(frozen=True)
class Newcomers:
    """Called by every worker of a training that begins: a machine that joined after the check is checked then."""

    known: frozenset[str]
    """The machines that were there."""
    driver: Report
    """What the others must be like."""
    need: Need
    mark: str
    """A file that the run has in its storage."""

    def __call__(self) -> None:
        """Look at this machine, once for all its workers, if nobody has.

        Raises:
            ClusterError: it is not ready; lists its faults.
        """
        import ray.train  # late: no driver needs it

        if nodes.here() in self.known or ray.train.get_context().get_local_rank():
            return
        name = socket.gethostname()
        said = probe.look({**_asked(self.need, self.mark), "gpus": False, "peers": []})
        raise_faults(judge([Report.of(name, said)], self.driver, self.need))


def newcomers(config: Config, *, storage: str, mark: str, workers: int, gpus: float) -> Newcomers:
    """For machines that a cloud starts when workers wait for them; the others are to be checked after this.

    Args:
        config: what will be trained.
        storage: folder or URI of the results.
        mark: a file that is in the storage when workers begin.
        workers: of the training.
        gpus: that each is given.
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
    """What a run of those configurations needs; with workers or GPUs unknown, it could be any number of them.

    Raises:
        ConfigError: a URI holds a password.
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
        storage=stores.settled(storage),
        gpus=on_gpus,
        gloo=together and not on_gpus,
    )


def ask(there: Sequence[Node], need: Need) -> tuple[Report, list[Report]]:
    """What this process and all machines say."""
    with marked(need.storage) as mark:
        driver = Report.of(DRIVER, probe.look({**_asked(need, mark), "gpus": 0, "peers": []}))
        return driver, nodes.gather(there, _asked(need, mark))


def ask_here(node: Node, need: Need) -> Report:
    """What this machine says, of what matters to one that is alone."""
    with marked(need.storage) as mark:
        said = probe.look({**_asked(need, mark), "compare": False, "roots": (), "gpus": 0, "peers": []})
    gpus = probe.count_gpus() if need.gpus and node.gpus else None
    return Report.of(node.name, {**said, "gpus": gpus}, promised_gpus=node.gpus)


@contextlib.contextmanager
def marked(storage: str | None) -> Iterator[str | None]:
    """The name of a file in the storage for the length of a ``with`` block; none, where it cannot be written.

    A folder is made for it, and removed again where it is empty.
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
        system, path = stores.open_place(storage)
        with system.open_output_stream(f"{path}/{mark}") as out:
            out.write(b"ok")
    except (OSError, ValueError, ArrowException):
        yield None  # the driver's own report says so
        return
    try:
        yield mark
    finally:
        with contextlib.suppress(OSError, ArrowException):  # another run came to live there, or the storage is gone
            system.delete_file(f"{path}/{mark}")
            for folder in made:
                folder.rmdir()


def raise_faults(faults: Sequence[Fault]) -> None:
    """Raise a ``ClusterError`` with all faults, as a sentence or a table, if there are any."""
    if len(faults) == 1:
        fault = faults[0]
        raise ClusterError(
            f"Every machine must be ready; {fault.machine} is not. {fault.check}: {fault.found}; "
            f"wanted: {fault.wanted}. {fault.remedy}"
        )
    if faults:
        raise ClusterError(f"Every machine must be ready; there are {len(faults)} faults:\n{table(faults)}")


def table(faults: Sequence[Fault], width: int | None = None) -> str:
    """The faults as text; what is the same of several machines stands in one row."""
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
    """The line that says so."""
    gpus = sum(node.gpus for node in there)
    count = f"{len(there)} machine{'s' if len(there) != 1 else ''}, {gpus:g} GPU{'s' if gpus != 1 else ''}"
    return f"{count}: same code and versions, {'data and ' if need.roots else ''}storage reachable."


def _asked(need: Need, mark: str | None) -> dict[str, Any]:
    plain: dict[str, Any] = {"roots": list(need.roots), "cache": need.cache, "storage": need.storage}
    return {**plain, "mark": mark, "gpus": need.gpus, "compare": True}
