"""Whether the Ray of this process lives: without a look, a dead one is waited for, for ever and in silence.

A Ray that was started here is two processes whose end is seen at once. Of a cluster that was joined the head is asked;
Ray itself ends this process, without a word, a minute after its head has gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from htt.driver_log import OURS
from htt.errors import ClusterError, HTTError

LOOK_S = 2.0
ANSWER_S = 5.0
SILENT_S = 30.0
"""How long a head may not answer, s: half of what Ray waits."""
AGAIN_S = 10.0
"""How long what is under way may take to end, before it is told once more."""
TOLD = 3
"""So often; then the process is ended."""
GO_ON: list[str] = []
"""What a command says then of how to go on; it puts it here."""
SIGNAL = getattr(signal, "SIGUSR2", signal.SIGTERM)
CORE = {"raylet": "raylet", "gcs_server": "head (GCS)"}
"""Ray's processes that nothing goes on without."""


class LostRayError(ClusterError):
    """The Ray of this process died while it was used."""


@contextlib.contextmanager
def watched(*, started: bool) -> Iterator[None]:
    """Raise a ``LostRayError`` when the Ray of this process dies within a ``with`` block of the main thread.

    Args:
        started: whether it was started by this process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, found = threading.Event(), list[str]()
    what = _dead_process if started else _Silence()

    def watch() -> None:
        told = 0
        while not over.wait(AGAIN_S if found else LOOK_S):
            if not found and (why := what()):
                found.append(why)
            if found and told == TOLD:
                _end(found[0])
            if found and not over.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
                told += 1

    def die(*_: Any) -> None:
        if found:
            raise KeyboardInterrupt  # no ``except Exception`` keeps it; Ray makes it of whatever a handler raises
        usual(*_)

    def usual(number: int, frame: Any) -> None:
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:  # somebody else's: as Ctrl-C
            raise KeyboardInterrupt

    before = signal.signal(SIGNAL, die)
    watcher = threading.Thread(target=watch, daemon=True, name="heartbeat")
    watcher.start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        ours = isinstance(error, HTTError | KeyboardInterrupt)
        why = found[0] if found else None if ours else what()  # Ray's errors may come before the look
        if why is None:
            raise
        raise LostRayError(_sentence(why)) from (None if ours else error)
    finally:
        over.set()
        watcher.join()
        signal.signal(SIGNAL, before if before is not None else signal.SIG_DFL)


def _end(why: str) -> None:
    """End this process from another thread: the main one waits inside Ray, where no signal reaches it."""
    for words in (f"error: {_sentence(why)}", *GO_ON):
        with contextlib.suppress(OSError):
            os.write(2, f"{words}\n".encode())
        OURS.warning(words)
    os._exit(LostRayError.exit_code)


def _sentence(why: str) -> str:
    return f"Ray must live while it is used; {why}. What is finished is kept."


def _dead_process() -> str | None:
    """Which of Ray's processes that this one started has ended."""
    node: Any = sys.modules["ray"]._private.worker._global_node
    for kind, process in node.dead_processes() if node else []:
        if kind in CORE:
            return f"its {CORE[kind]} process ended with {process.returncode}. Out of memory? See dmesg, or driver.log"
    return None


class _Silence:
    """Whether the head of a cluster has not answered for long."""

    def __init__(self) -> None:
        self._heard = time.monotonic()

    def __call__(self) -> str | None:
        with contextlib.suppress(Exception):  # of any kind: it did not answer
            sys.modules["ray"]._private.worker.global_worker.gcs_client.check_alive([], timeout=ANSWER_S)
            self._heard = time.monotonic()
        silent = time.monotonic() - self._heard
        return f"its head has not answered for {silent:.0f} s. See ray status there" if silent > SILENT_S else None
