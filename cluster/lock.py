"""Exclusive access to a run in a bucket: one process at a time, on any machine.

A file lock protects a folder (``cluster.run_folder.locked_folder``), but not a bucket that several machines share.
There, an object names the owner of the lease. The owner renews it while it is alive and marks it as ended when it
stops. A process checks whether the owner is alive by watching the object for a while, so it compares no clocks of two
machines.

The object stays after the lease has ended, because it also records under which lease the files were written: a copy on
another machine is older. So a process that was wrongly considered dead notices it whenever it reads the object, and
writes nothing more.

Arrow has no conditional write ("only if the object does not exist"). If two processes write the object at the same
time, the second write wins, and both see the result when they read it again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, fs

from cluster.storage import shown_uri, uri_errors
from htt import console
from htt.errors import RunError, StorageError

NAME = "claimed-by.json"
"""Name of the object in the run's folder."""
RENEW_S = 15.0
"""Interval at which an owner renews its lease, s."""
DEAD_S = 60.0
"""Time without a renewal after which an owner is considered dead, s."""
SETTLE_S = 1.0
"""Time between writing a lease and reading back which one won, s."""
LOOK_S = 2.0
"""Interval between two checks of whether an owner is alive, s."""

Record = dict[str, Any]
"""{"machine", "process": PID of the owner, "began": start time of the process, "host": boot and PID namespace in which
the PID is valid, "word": unique to this lease, "renewed": number of renewals, "ended", "generation": word of the lease
under which the files were written}."""
_REQUIRED = ("machine", "process", "began", "word", "renewed")
_DEFAULTS: Record = {"host": "", "ended": False, "generation": ""}


class Lease:
    """Right to write to a run in a bucket, valid until another process takes the run over."""

    def __init__(self, uri: str, system: fs.FileSystem, file: str, record: Record) -> None:
        self._uri, self._system, self._file, self._record = uri, system, file, record
        self._writing = threading.Lock()
        self.taken_by: Record | None = None

    @property
    def word(self) -> str:
        """Word that is unique to this lease."""
        return str(self._record["word"])

    def check(self) -> None:
        """Raise a ``StorageError`` if another process is known to have taken the run over; read nothing."""
        if self.taken_by is not None:
            raise StorageError(
                f"{shown_uri(self._uri)} was taken over by {_owner(self.taken_by)}, because this process did not renew "
                f"its lease for {DEAD_S:g} s. This process writes nothing more there. Resume the run when the other "
                "process has ended."
            )

    def look(self) -> None:
        """Read the owner, then ``check``.

        Raises:
            StorageError: another process has taken the run over.
            OSError, ArrowException: the store does not answer.
        """
        current = _read(self._system, self._file)
        if current and current["word"] != self.word:
            self.taken_by = current
        self.check()

    def publish(self) -> None:
        """Record that the run's files are written under this lease. Raises as ``look``."""
        if self._record["generation"] == self.word:
            with self._writing:
                self.look()
        else:
            self._write(generation=self.word)

    def renew(self) -> None:
        """Renew the lease to show that its owner is alive. Raises as ``look``."""
        self._write(renewed=self._record["renewed"] + 1)

    def end(self) -> None:
        """Mark the lease as ended, or delete it if no files were written under any lease. Raises as ``look``."""
        if self._record["generation"]:
            self._write(ended=True)
        else:
            with self._writing:
                self.look()
                self._system.delete_file(self._file)

    def _write(self, **changes: Any) -> None:
        with self._writing:
            self.look()
            record = {**self._record, **changes}
            _write(self._system, self._file, record)
            self._record = record


@contextlib.contextmanager
def leased(uri: str, system: fs.FileSystem, path: str, on_loss: Callable[[], object] = lambda: None) -> Iterator[Lease]:
    """Hold the lease of a run for the length of a ``with`` block.

    Args:
        uri: URI of the run, for messages.
        system: file system of the run.
        path: path of the run in that file system.
        on_loss: called in another thread when another process has taken the run over.

    Raises:
        RunError: another process works on the run.
        StorageError: the storage cannot be read or written.
    """
    file, process = f"{path}/{NAME}", os.getpid()
    mine: Record = {
        **_DEFAULTS, "machine": socket.gethostname(), "process": process, "began": _began(process), "host": _host(),
        "word": secrets.token_hex(8), "renewed": 0,
    }  # fmt: skip
    with uri_errors(uri):
        other = _read(system, file)
        if other and _is_alive(system, file, other):
            raise _in_use(uri, other)
        mine["generation"] = other["generation"] if other else ""
        _write(system, file, mine)
        time.sleep(SETTLE_S)
        winner = _read(system, file)
        if winner and winner["word"] != mine["word"]:
            raise _in_use(uri, winner)
    lease, over = Lease(uri, system, file, mine), threading.Event()
    renewing = threading.Thread(target=_renew, args=(lease, over, on_loss), daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        over.set()
        renewing.join(timeout=LOOK_S)
        with contextlib.suppress(OSError, ArrowException, StorageError):  # others wait DEAD_S then
            lease.end()


def generation(system: fs.FileSystem, path: str) -> str:
    """Return the word of the lease under which a run's files in a bucket were written, or "" if it is unknown."""
    record = _read(system, f"{path}/{NAME}")
    return str(record["generation"]) if record else ""


def _renew(lease: Lease, over: threading.Event, on_loss: Callable[[], object]) -> None:
    while not over.wait(RENEW_S):
        with contextlib.suppress(OSError, ArrowException):  # if the store is away, the next renewal will do
            try:
                lease.renew()
            except StorageError:  # the owner gets the error at its next write
                on_loss()
                return


def _is_alive(system: fs.FileSystem, file: str, other: Record) -> bool:
    """Return True if the owner of a lease is alive: by its PID on the same host, else by observing renewals."""
    if other["ended"]:
        return False
    runs = _runs(other) if other["host"] and other["host"] == _host() else None
    if runs is not None:
        return runs
    console.err.print(
        f"The run was last used by {_owner(other)}; watching for {DEAD_S:g} s whether it still runs.", markup=False
    )
    ends = time.monotonic() + DEAD_S
    while time.monotonic() < ends:
        time.sleep(LOOK_S)
        current = _read(system, file)
        if current is None or current["ended"]:
            return False
        if current != other:
            return True
    return False


def _host() -> str:
    """Return boot ID and PID namespace, equal for processes that see each other's PIDs, or "" if unknown.

    A host name is not enough: containers may share the name of their machine, and each has its own PID 1.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _runs(owner: Record) -> bool | None:
    """Return True if the owner's process runs on this host, False if it ended or its PID is reused, None if unknown."""
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    began = _began(owner["process"])  # empty where users cannot see the processes of others
    return bool(owner["began"] == began) if began else None


def _began(process: int) -> str:
    """Return the start time of a process in clock ticks since boot, or "" if it cannot be read."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _owner(record: Record) -> str:
    return f"process {record['process']} on {record['machine']}"


def _in_use(uri: str, other: Record) -> RunError:
    return RunError(f"{shown_uri(uri)} is in use by {_owner(other)}. Wait for it, or stop it with Ctrl-C and resume.")


def _read(system: fs.FileSystem, file: str) -> Record | None:
    """Return the stored lease, or None if there is none or it is invalid."""
    if system.get_file_info(file).type != fs.FileType.File:
        return None
    with system.open_input_stream(file) as stream:
        content = stream.read()
    try:
        record = json.loads(content)
        return {
            **{name: record[name] for name in _REQUIRED},
            **{name: record.get(name, _DEFAULTS[name]) for name in _DEFAULTS},
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(system: fs.FileSystem, file: str, record: Record) -> None:
    with system.open_output_stream(file) as stream:
        stream.write(json.dumps(record).encode())
