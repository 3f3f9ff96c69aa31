"""Who works on a run in a bucket: one process, on whatever machine.

A lock of the file system guards a folder (``cluster.folder.one_process``), and not what machines share by a bucket.
There an object says who works: it is written again and again while its owner lives, and removed when it ends. Whether
an owner lives is seen by looking on for a while, so that no two clocks are compared.

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import ArrowException, fs

from cluster import stores
from htt import console
from htt.errors import RunError

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
"""{"machine", "process", "began": when that did, "word": of this claim alone, "renewed": how often}."""


@contextlib.contextmanager
def claimed(place: str, system: fs.FileSystem, path: str) -> Iterator[None]:
    """Work on a run alone, for the length of a ``with`` block.

    Args:
        place: the URI of the run, for messages.
        system: its file system.
        path: of the run, there.

    Raises:
        RunError: another process works on it.
        StorageError: the storage refuses.
    """
    file = f"{path}/{NAME}"
    me = {"machine": socket.gethostname(), "process": os.getpid(), "began": _began(os.getpid())}
    mine: Claim = {**me, "word": secrets.token_hex(8), "renewed": 0}
    with stores.refusals(place):
        other = _read(system, file)
        if other and _lives(system, file, other):
            raise _refusal(place, other)
        _write(system, file, mine)
        time.sleep(SETTLE_S)
        found = _read(system, file)
        if found and not _is(mine, found):
            raise _refusal(place, found)
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(system, file, mine, over), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join(timeout=LOOK_S)
        with contextlib.suppress(OSError, ArrowException):  # it is taken for dead then, a minute later
            if _is(mine, _read(system, file)):
                system.delete_file(file)


def _renew(system: fs.FileSystem, file: str, mine: Claim, over: threading.Event) -> None:
    while not over.wait(RENEW_S):
        with contextlib.suppress(OSError, ArrowException):  # a store that is away takes the next one
            found = _read(system, file)
            if found and not _is(mine, found):
                console.err.print(
                    f"{_owner(found)} has taken this run over, for it heard nothing of this one.", markup=False
                )
                return
            mine["renewed"] += 1
            _write(system, file, mine)


def _lives(system: fs.FileSystem, file: str, other: Claim) -> bool:
    """Whether the owner of a claim still writes; a process of this machine is looked for."""
    if other["machine"] == socket.gethostname():
        return _runs(other)
    console.err.print(
        f"{_owner(other)} has worked on this run; looking whether it still does, for {DEAD_S:g} s.", markup=False
    )
    ends = time.monotonic() + DEAD_S
    while time.monotonic() < ends:
        time.sleep(LOOK_S)
        found = _read(system, file)
        if found is None:
            return False
        if found != other:
            return True
    return False


def _runs(owner: Claim) -> bool:
    """Whether that process of this machine lives, and is no other that was given its number."""
    try:
        os.kill(owner["process"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is another user's
        pass
    return bool(owner["began"] == _began(owner["process"]))


def _began(process: int) -> str:
    """When a process began, in ticks of its machine; nothing where that is not told."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is(mine: Claim, found: Claim | None) -> bool:
    return found is not None and found["word"] == mine["word"]


def _owner(claim: Claim) -> str:
    return f"Process {claim['process']} on {claim['machine']}"


def _refusal(place: str, other: Claim) -> RunError:
    return RunError(
        f"One process at a time works on a run; {_owner(other)} works on {place.partition('?')[0]}. Wait for "
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
        return {name: found[name] for name in ("machine", "process", "began", "word", "renewed")}
    except (ValueError, KeyError, TypeError):
        return None


def _write(system: fs.FileSystem, file: str, claim: Claim) -> None:
    with system.open_output_stream(file) as stream:
        stream.write(json.dumps(claim).encode())
