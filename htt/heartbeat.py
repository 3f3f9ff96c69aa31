"""Watch on the Ray of this process: without it, the process would wait forever and silently for a dead Ray.

For a Ray started here, the end of its two main processes is noticed at once. For a joined cluster, the head is queried
regularly; Ray itself ends this process, without a message, a minute after the head is gone.
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
"""Time without an answer after which a head counts as dead, s: half of the time Ray waits."""
AGAIN_S = 10.0
"""Time for the interrupted code to end before it is interrupted again, s."""
MOST_INTERRUPTS = 3
"""Number of interrupts before the process is ended."""
SIGNAL = getattr(signal, "SIGUSR2", signal.SIGTERM)
_resume_hint = ""
CORE = {"raylet": "raylet", "gcs_server": "head (GCS)"}
"""Processes that a Ray cannot work without."""


class LostRayError(ClusterError):
    """Death of the Ray of this process while it was used."""


def set_resume_hint(line: str) -> None:
    """Set the line on how to resume that is printed if the process must be ended."""
    global _resume_hint
    _resume_hint = line


@contextlib.contextmanager
def watched(*, started: bool) -> Iterator[None]:
    """Raise ``LostRayError`` when the Ray of this process dies within a ``with`` block of the main thread.

    Args:
        started: whether this process started the Ray.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    over, reasons = threading.Event(), list[str]()
    check = _dead_process if started else _Silence()

    def watch() -> None:
        interrupts = 0
        while not over.wait(AGAIN_S if reasons else LOOK_S):
            if not reasons and (reason := check()):
                reasons.append(reason)
            if reasons and interrupts == MOST_INTERRUPTS:
                _end(reasons[0])
            if reasons and not over.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)
                interrupts += 1

    def die(*_: Any) -> None:
        if reasons:
            raise KeyboardInterrupt  # not caught by ``except Exception``; Ray raises it for any error of a handler
        usual(*_)

    def usual(number: int, frame: Any) -> None:
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:  # not our signal: treated as Ctrl-C
            raise KeyboardInterrupt

    before = signal.signal(SIGNAL, die)
    watcher = threading.Thread(target=watch, daemon=True, name="heartbeat")
    watcher.start()
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        ours = isinstance(error, HTTError | KeyboardInterrupt)
        reason = reasons[0] if reasons else None if ours else check()  # an error of Ray may come before the check
        if reason is None:
            raise
        raise LostRayError(_sentence(reason)) from (None if ours else error)
    finally:
        over.set()
        watcher.join()
        signal.signal(SIGNAL, before if before is not None else signal.SIG_DFL)


def _end(reason: str) -> None:
    """End this process from another thread, because the main thread waits inside Ray, where signals do not reach it."""
    for line in filter(None, (f"error: {_sentence(reason)}", _resume_hint)):
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())
        OURS.warning(line)
    os._exit(LostRayError.exit_code)


def _sentence(reason: str) -> str:
    return f"Lost Ray: {reason}. Finished work is kept."


def _dead_process() -> str | None:
    """Return a sentence on the dead process of the Ray started here, or None if all are alive."""
    node: Any = sys.modules["ray"]._private.worker._global_node
    for kind, process in node.dead_processes() if node else []:
        if kind in CORE:
            return (
                f"its {CORE[kind]} process ended with {process.returncode} (out of memory?). See dmesg, or driver.log"
            )
    return None


class _Silence:
    """Check for a cluster's head that has not answered for ``SILENT_S``."""

    def __init__(self) -> None:
        self._heard = time.monotonic()

    def __call__(self) -> str | None:
        with contextlib.suppress(Exception):  # any error means that it did not answer
            sys.modules["ray"]._private.worker.global_worker.gcs_client.check_alive([], timeout=ANSWER_S)
            self._heard = time.monotonic()
        silent = time.monotonic() - self._heard
        return (
            f"its head has not answered for {silent:.0f} s. Run ray status on its machine"
            if silent > SILENT_S
            else None
        )
