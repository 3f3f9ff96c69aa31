"""Who works on a run in a bucket: one process, on whatever machine.

A lock of the file system guards a folder (``cluster.run_folder.one_process``), and not what machines share by a bucket.
There an object says who works: it is written again and again while its owner lives, and says so when it ends. Whether
an owner lives is seen by looking on for a while, so that no two clocks are compared.

The object stays when its owner ends, for it also says whose files are there: a copy on another machine is older. So a
process that was taken for dead, and was not, learns it however late it looks, and writes nothing more.

Arrow cannot write an object only if there is none. Of two that write one at the same moment, the second has it, and
both see so when they look again.
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
"""So often an owner writes."""
DEAD_S = 60.0
"""One that has not written for so long is taken for dead."""
SETTLE_S = 1.0
"""Between a claim and the look at whose it is."""
LOOK_S = 2.0
"""Between two looks at whether an owner lives."""

Claim = dict[str, Any]
"""{"machine", "process", "began": when that did, "host": where its number means something, "word": of this claim alone,
"renewed": how often, "ended", "generation": the word of the claim under which the files there were written}."""
_NEEDED = ("machine", "process", "began", "word", "renewed")
_USUAL: Claim = {"host": "", "ended": False, "generation": ""}


class Lease:
    """The right to write to a run in a bucket, for as long as nobody has taken it over."""

    def __init__(self, place: str, system: fs.FileSystem, file: str, claim: Claim) -> None:
        self._place, self._system, self._file, self._claim = place, system, file, claim
        self._writing = threading.Lock()
        self.taken_by: Claim | None = None

    @property
    def word(self) -> str:
        """What no other claim has."""
        return str(self._claim["word"])

    def check(self) -> None:
        """Raise a ``StorageError`` if another process was seen to have taken the run over; asks nobody."""
        if self.taken_by is not None:
            raise StorageError(
                f"A run in a bucket has one writer; {_owner(self.taken_by)} has taken {_shown(self._place)} over, "
                f"for it heard nothing of this process for {DEAD_S:g} s. Nothing more is written there by this one. "
                "Resume the run when the other has ended."
            )

    def look(self) -> None:
        """``check``, having looked whose the run is.

        Raises:
            OSError, ArrowException: the store does not answer.
        """
        found = _read(self._system, self._file)
        if found and found["word"] != self.word:
            self.taken_by = found
        self.check()

    def publish(self) -> None:
        """Look whose the run is, and say that its files are written under this claim. Raises as ``look``."""
        with self._writing:
            self.look()
            if self._claim["generation"] != self.word:
                _write(self._system, self._file, {**self._claim, "generation": self.word})
                self._claim["generation"] = self.word

    def renew(self) -> None:
        """Say that its owner lives. Raises as ``look``."""
        with self._writing:
            self.look()
            self._claim["renewed"] += 1
            _write(self._system, self._file, self._claim)

    def end(self) -> None:
        """Give it up; a run without files keeps nothing of it. Raises as ``look``."""
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
    """Work on a run alone, for the length of a ``with`` block.

    Args:
        place: the URI of the run, for messages.
        system: its file system.
        path: of the run, there.
        on_loss: called in another thread when another process has taken the run over.

    Raises:
        RunError: another process works on it.
        StorageError: the storage refuses.
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
        with contextlib.suppress(OSError, ArrowException, StorageError):  # it is taken for dead then, a minute later
            lease.end()


def generation(system: fs.FileSystem, path: str) -> str:
    """Under which claim the files of a run in a bucket were written; empty: none, or none that is known."""
    found = _read(system, f"{path}/{NAME}")
    return str(found["generation"]) if found else ""


def _renew(lease: Lease, over: threading.Event, on_loss: Callable[[], object]) -> None:
    while not over.wait(RENEW_S):
        with contextlib.suppress(OSError, ArrowException):  # a store that is away takes the next one
            try:
                lease.renew()
            except StorageError:  # the owner hears of it where it writes next
                on_loss()
                return


def _lives(system: fs.FileSystem, file: str, other: Claim) -> bool:
    """Whether the owner of a claim still writes; a process that has its number here is looked for."""
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
    """What is the same for processes that see one another by number: a boot of a kernel, and a namespace in it.

    A name does not tell: containers may share that of their machine, and each has a process 1. Empty: not known.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _runs(owner: Claim) -> bool | None:
    """Whether that process of this machine lives, and is no other that was given its number; none: nobody says."""
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    began = _began(owner["process"])  # nothing where users do not see the processes of others
    return bool(owner["began"] == began) if began else None


def _began(process: int) -> str:
    """When a process began, in ticks of its machine; nothing where that is not told."""
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
    """The claim that is there; one that cannot be read is none."""
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
