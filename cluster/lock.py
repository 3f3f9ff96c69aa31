"""Exclusive access to a run in a bucket: one process at a time, on any machine.

A file lock protects a folder (``cluster.run_folder.one_process``), but not a bucket that several machines share. There
an object, the claim, names the owner. The owner renews it while it is alive and marks it as ended when it stops. A
process checks whether the owner is alive by observing the claim for a while, so no clocks of two machines are compared.

The claim stays after its owner has ended, because it also records under which claim the files were written: a copy on
another machine is older. So a process that was wrongly considered dead notices it whenever it reads the claim, and
writes nothing more.

Arrow has no conditional write ("only if the object does not exist"). If two processes write a claim at the same time,
the second write wins, and both see the result when they read the claim again.
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

from cluster import storage
from htt import console
from htt.errors import RunError, StorageError

NAME = "claimed-by.json"
RENEW_S = 15.0
"""Interval at which an owner renews its claim, s."""
DEAD_S = 60.0
"""Time without a renewal after which an owner is considered dead, s."""
SETTLE_S = 1.0
"""Time between writing a claim and reading back which claim won, s."""
LOOK_S = 2.0
"""Interval between two checks of whether an owner is alive, s."""

Claim = dict[str, Any]
"""{"machine", "process": its PID, "began": start time of the process, "host": boot and PID namespace in which the PID
is valid, "word": unique to this claim, "renewed": number of renewals, "ended", "generation": word of the claim under
which the files were written}."""
_NEEDED = ("machine", "process", "began", "word", "renewed")
_USUAL: Claim = {"host": "", "ended": False, "generation": ""}


class Lease:
    """Right to write to a run in a bucket, valid until another process takes the run over."""

    def __init__(self, place: str, system: fs.FileSystem, file: str, claim: Claim) -> None:
        self._place, self._system, self._file, self._claim = place, system, file, claim
        self._writing = threading.Lock()
        self.taken_by: Claim | None = None

    @property
    def word(self) -> str:
        """Word that is unique to this claim."""
        return str(self._claim["word"])

    def check(self) -> None:
        """Raise a ``StorageError`` if another process is known to have taken the run over; reads nothing."""
        if self.taken_by is not None:
            raise StorageError(
                f"A run in a bucket has one writer; {_owner(self.taken_by)} has taken {_shown(self._place)} over, "
                f"for it heard nothing of this process for {DEAD_S:g} s. Nothing more is written there by this one. "
                "Resume the run when the other has ended."
            )

    def look(self) -> None:
        """Read the claim, then ``check``.

        Raises:
            StorageError: another process has taken the run over.
            OSError, ArrowException: the store does not answer.
        """
        found = _read(self._system, self._file)
        if found and found["word"] != self.word:
            self.taken_by = found
        self.check()

    def publish(self) -> None:
        """Record in the claim that the run's files are written under it. Raises as ``look``."""
        with self._writing:
            self.look()
            if self._claim["generation"] != self.word:
                _write(self._system, self._file, {**self._claim, "generation": self.word})
                self._claim["generation"] = self.word

    def renew(self) -> None:
        """Renew the claim to show that its owner is alive. Raises as ``look``."""
        with self._writing:
            self.look()
            self._claim["renewed"] += 1
            _write(self._system, self._file, self._claim)

    def end(self) -> None:
        """Mark the claim as ended, or delete it if no files were written under any claim. Raises as ``look``."""
        with self._writing:
            self.look()
            if self._claim["generation"]:
                _write(self._system, self._file, {**self._claim, "ended": True})
            else:
                self._system.delete_file(self._file)


@contextlib.contextmanager
def claimed(
    place: str, system: fs.FileSystem, path: str, on_loss: Callable[[], object] = lambda: None
) -> Iterator[Lease]:
    """Hold the claim on a run for the length of a ``with`` block.

    Args:
        place: URI of the run, for messages.
        system: file system of the run.
        path: path of the run in that file system.
        on_loss: called in another thread when another process has taken the run over.

    Raises:
        RunError: another process works on the run.
        StorageError: the storage cannot be read or written.
    """
    file = f"{path}/{NAME}"
    me = {"machine": socket.gethostname(), "process": os.getpid(), "began": _began(os.getpid()), "host": _host()}
    mine: Claim = {**_USUAL, **me, "word": secrets.token_hex(8), "renewed": 0}
    with storage.refusals(place):
        other = _read(system, file)
        if other and _lives(system, file, other):
            raise _refusal(place, other)
        mine["generation"] = other["generation"] if other else ""
        _write(system, file, mine)
        time.sleep(SETTLE_S)
        found = _read(system, file)
        if found and found["word"] != mine["word"]:
            raise _refusal(place, found)
    lease, over = Lease(place, system, file, mine), threading.Event()
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
    """Return the word of the claim under which a run's files in a bucket were written, or "" if it is unknown."""
    found = _read(system, f"{path}/{NAME}")
    return str(found["generation"]) if found else ""


def _renew(lease: Lease, over: threading.Event, on_loss: Callable[[], object]) -> None:
    while not over.wait(RENEW_S):
        with contextlib.suppress(OSError, ArrowException):  # if the store is away, the next renewal will do
            try:
                lease.renew()
            except StorageError:  # the owner gets the error at its next write
                on_loss()
                return


def _lives(system: fs.FileSystem, file: str, other: Claim) -> bool:
    """Return True if the owner of a claim is alive: by its PID on the same host, else by observing renewals."""
    if other["ended"]:
        return False
    runs = _runs(other) if other["host"] and other["host"] == _host() else None
    if runs is not None:
        return runs
    console.err.print(
        f"{_owner(other)} has worked on this run; looking whether it still does, for {DEAD_S:g} s.", markup=False
    )
    ends = time.monotonic() + DEAD_S
    while time.monotonic() < ends:
        time.sleep(LOOK_S)
        found = _read(system, file)
        if found is None or found["ended"]:
            return False
        if found != other:
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


def _runs(owner: Claim) -> bool | None:
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


def _owner(claim: Claim) -> str:
    return f"Process {claim['process']} on {claim['machine']}"


def _shown(place: str) -> str:
    return place.partition("?")[0]


def _refusal(place: str, other: Claim) -> RunError:
    return RunError(
        f"One process at a time works on a run; {_owner(other)} works on {_shown(place)}. Wait for "
        "it, or stop it with Ctrl-C and resume."
    )


def _read(system: fs.FileSystem, file: str) -> Claim | None:
    """Return the stored claim, or None if there is none or it is invalid."""
    if system.get_file_info(file).type != fs.FileType.File:
        return None
    with system.open_input_stream(file) as stream:
        content = stream.read()
    try:
        found = json.loads(content)
        return {name: found[name] for name in _NEEDED} | {name: found.get(name, _USUAL[name]) for name in _USUAL}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _write(system: fs.FileSystem, file: str, claim: Claim) -> None:
    with system.open_output_stream(file) as stream:
        stream.write(json.dumps(claim).encode())
