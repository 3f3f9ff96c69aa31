"""How every command of the project speaks: options by tyro, progress by rich, and errors as one sentence.

A script is a dataclass of options and a function of them::

    @dataclass
    class Options(console.Options):
        \"\"\"Draws a contact sheet.\"\"\"
        out: Path = Path("sheet.png")

    def main(options: Options) -> None: ...

    if __name__ == "__main__":
        console.run(Options, main)

``console.run`` leaves with 0, with 2 for what the user can mend, with 1 for the rest, and with 130 when the command was
interrupted: by Ctrl-C, or by SIGTERM, SIGHUP or SIGUSR1, which batch systems and closing terminals send.

Nothing that prints ends the work: a pipe that was closed, a terminal that is gone or a text that cannot be shown costs
what would have been shown.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console
from rich.errors import ConsoleError
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from htt.driver_log import OURS
from htt.errors import HTTError

Assignments = Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH=VALUE")]
"""``--set path=value``, any number of times."""

LINE_EVERY_S = 15.0
"""Where the output is no terminal, a line says so often how far a work is."""

INTERRUPTED = 130
"""The exit code of a command that was interrupted."""
INTERRUPTS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""Signals that end a command as Ctrl-C does: SLURM sends SIGUSR1 and SIGTERM, a closing terminal SIGHUP."""
GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""What writing gives once nobody can read it any more."""


class Screen(Console):
    """A console that never ends the work which prints on it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and log it; markup that is none is printed as it stands."""
        if all(isinstance(one, str | Text) for one in objects):
            OURS.log(logging.WARNING if self.stderr else logging.INFO, " ".join(map(str, objects)).strip())
        try:
            super().print(*objects, **options)
        except ConsoleError:
            super().print(*objects, **{**options, "markup": False})

    def _write_buffer(self) -> None:
        """Write what was rendered; called by rich from every thread that shows something."""
        file = self.file
        try:
            super()._write_buffer()
        except (OSError, ValueError) as error:  # the latter of a closed file
            del self._buffer[:]
            if isinstance(error, ValueError) or error.errno in GONE:
                _to_nowhere(file)
                self.quiet = True
                self._say_it_is_gone(error)

    def _say_it_is_gone(self, error: Exception) -> None:
        OURS.warning("The output cannot be written any more (%s); the work goes on.", error)
        if not self.stderr:
            err.print("Nobody reads the output any more; the work goes on without it.")


def _to_nowhere(file: Any) -> None:
    """Have whatever else writes to a file that is gone write to nowhere, Python's last flush too."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def harmless(show: Callable[..., object]) -> Callable[..., None]:
    """``show``, without what it raises: a display's fault costs what it would have shown, and the first is logged."""
    failed = False

    @functools.wraps(show)
    def shown(*arguments: Any, **options: Any) -> None:
        nonlocal failed
        try:
            show(*arguments, **options)
        except Exception as error:  # of any kind: the work is worth more than its display
            if not failed:
                OURS.warning("The display failed; the work goes on.", exc_info=error)
            failed = True

    return shown


out = Screen(soft_wrap=True, highlight=False)
err = Screen(stderr=True, soft_wrap=True, highlight=False)


@dataclass
class Options:
    """What every command takes."""

    debug: bool = field(default=False, kw_only=True)
    """Show the traceback of an error."""


OptionsT = TypeVar("OptionsT", bound=Options)


def run(kind: type[OptionsT], main: Callable[[OptionsT], None], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line into ``kind``, call ``main``, and leave the process with its exit code."""
    _open_outputs()
    options = tyro.cli(kind, args=arguments)
    try:
        with _interruptible():
            main(options)
    except HTTError as error:
        if options.debug:
            raise
        err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("Stopped. The same command goes on with what is finished.")
        sys.exit(INTERRUPTED)


def _open_outputs() -> None:
    """Give a process whose outputs were closed (``>&-``) some: else the next files it opens would take their place.

    A character that the terminal lacks is shown by its number.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Treat the signals that ask a command to end as Ctrl-C; those its parent has it ignore (nohup) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in INTERRUPTS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, _as_ctrl_c)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _as_ctrl_c(number: int, frame: Any) -> None:  # noqa: ARG001 - as Python calls it
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:  # started in the background, where a shell has Ctrl-C ignored
        raise KeyboardInterrupt


def command(script: str, options: Options) -> str:
    """The command line of a script with these options; those that are as usual are left out.

    Args:
        script: such as "tune/ablate.py".
        options: all of which have a default.
    """
    return shlex.join(["python", script, *_words(options, type(options)())])


def _words(options: Any, usual: Any) -> Iterator[str]:
    for entry in fields(options):
        given, name = getattr(options, entry.name), entry.name.replace("_", "-")
        if given == getattr(usual, entry.name):
            continue
        if is_dataclass(given):
            yield from _words(given, getattr(usual, entry.name))
        elif isinstance(given, bool):
            yield f"--{name}" if given else f"--no-{name}"
        else:
            for value in given if isinstance(given, list) else [given]:
                yield from (f"--{name}", str(value))


def progress(unit: str, *, passing: bool = False) -> Progress:
    """A progress bar: title, bar, count with its unit, rate, time left. Elsewhere than on a terminal, its end alone.

    One that is ``passing`` is gone when it ends, and shows nothing elsewhere than on a terminal.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=out,
        transient=passing,
        disable=passing and not out.is_terminal,
    )


class Counting:
    """Says how far a long work is: a bar on a terminal, and a line now and then elsewhere.

    ``with console.Counting("Evaluating", 254, "windows") as counting: ... counting.advance(2)``
    """

    def __init__(
        self, title: str, total: int, unit: str, *, done: int = 0, found: int = 0, passing: bool = False
    ) -> None:
        """Show nothing yet.

        Args:
            title: such as "Evaluating h2o val".
            total: how much there is to do.
            unit: what is counted, such as "frames".
            done: how much was done earlier; it counts as done, not as speed.
            found: how much came out of that.
            passing: whether nothing of it stays on a terminal.
        """
        self._title, self._total, self._unit = title, total, unit
        self._done = self._done_before = done
        self._found = self._found_before = found
        self._started = self._said = time.monotonic()
        self._bar = progress(unit, passing=passing)
        self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Counting:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__(None, None, None)

    def advance(self, count: int, found: int | None = None, note: str = "") -> None:
        """Count some more.

        Args:
            count: how much is done, of the total.
            found: how much came out of it; none: as much.
            note: of something else that is counted beside it, such as "3/40 clips".
        """
        self._done += count
        self._found += count if found is None else found
        now = time.monotonic()
        rate = f"{(self._found - self._found_before) / max(now - self._started, 1e-3):,.0f} {self._unit}/s"
        self._bar.update(self._task, completed=self._done, note=f"{note}, {rate}" if note else rate)
        if not out.is_terminal and now - self._said > LINE_EVERY_S:
            self._said = now
            left_s = (now - self._started) * (self._total - self._done) / max(1, self._done - self._done_before)
            far = f"{note}, {self._found:,} {self._unit}" if note else f"{self._done:,}/{self._total:,} {self._unit}"
            out.print(f"{self._title}: {far}, {rate}, {clock(left_s)} left", markup=False)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def escape(text: str) -> str:
    """Text that ``print`` shows as it stands, brackets and all."""
    return text.replace("[", r"\[")
