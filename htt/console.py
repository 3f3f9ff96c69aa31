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
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Column, Table
from rich.text import Text

from htt.driver_log import OURS
from htt.errors import ConfigError, HTTError
from htt.text import printable

Assignments = Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH=VALUE")]
"""``--set path=value``, any number of times."""

LINE_EVERY_S = 10.0
"""Shortest time between two lines of progress where the output is no terminal."""
LONGEST_PAUSE_S = 300.0
"""Longest time between two lines of progress."""
LOADING_S = 8.0
LOADING = "Loading Ray and torch; from a cold or busy disk that takes a minute ..."
"""Said after ``LOADING_S`` by commands that have to load them before anything else."""
_waiting: list[threading.Timer] = []
BAR_FROM = 100
"""Columns of a terminal from which on a progress bar is drawn; a narrower one shows its numbers alone."""
NUMBER = re.compile(
    r"\\?[<>] ?{0}|{0}( to {0})?( ?(%|points|mm|px|m|nats|ms|MB|s|min|h|k|M|G))?|[-–]|nan".format(
        r"[−+-]?\d[\d.,]*(?:e[+-]?\d+)?"
    )
)
"""A cell of a table that is a number, perhaps with its unit, or that says that there is none."""
_WITH_UNIT = re.compile(r"(?<=\d) (?=(?:%|mm|px|m|nats|ms|MB|s|min|h|k|M|G)$)")
_NO_BREAK = "\ue000"
"""Stands for a space at which a table must not break a line."""

INTERRUPTED = 130
"""The exit code of a command that was interrupted."""
INTERRUPTS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""Signals that end a command as Ctrl-C does: SLURM sends SIGUSR1 and SIGTERM, a closing terminal SIGHUP."""
GONE = (errno.EPIPE, errno.EIO, errno.EBADF)
"""What writing gives once nobody can read it any more."""


class Screen(Console):
    """A console that shows text as it is and never ends the work which prints on it.

    Brackets and colons mean nothing, and control characters are left out.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Leave out control characters; rich's own commands to the terminal are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, and log it."""
        if all(isinstance(one, str | Text) for one in objects):
            OURS.log(logging.WARNING if self.stderr else logging.INFO, " ".join(map(str, objects)).strip())
        super().print(*objects, **options)

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


out = Screen(soft_wrap=True)
err = Screen(stderr=True, soft_wrap=True)


@dataclass
class Options:
    """What every command takes."""

    debug: bool = field(default=False, kw_only=True)
    """Show the traceback of an error."""


OptionsT = TypeVar("OptionsT", bound=Options)


def say_later(text: str = LOADING, after_s: float = LOADING_S) -> threading.Timer:
    """Say that something takes long, unless the timer is cancelled before; ``run`` cancels what a script began."""
    timer = threading.Timer(after_s, err.print, [text], {"markup": False})
    timer.daemon = True
    timer.start()
    _waiting.append(timer)
    return timer


def run(kind: type[OptionsT], main: Callable[[OptionsT], None], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line into ``kind``, call ``main``, and leave the process with its exit code."""
    for timer in _waiting:
        timer.cancel()
    _open_outputs()
    options = tyro.cli(kind, args=arguments, prog=program())
    try:
        with _interruptible():
            main(_settled(options))
    except HTTError as error:
        if options.debug:
            raise
        say_error("error:", str(error), "bold red")
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


def say_error(head: str, text: str, style: str = "bold yellow") -> None:
    """Print a sentence with its head, such as "warning:", on the error stream."""
    err.print(Text.assemble((head, style), f" {text}"))


def program() -> str:
    """How this process was started, as one types it here: ``python -m htt.evaluate``, ``python tune/search.py``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    script = os.path.relpath(sys.argv[0])
    return f"python {shlex.quote(sys.argv[0] if script.startswith('..') else script)}"


def _settled(options: OptionsT) -> OptionsT:
    """The options with every ``~`` of a path written out.

    Raises:
        ConfigError: an option is empty, as a variable of the shell that is not set leaves it, or nobody's home.
    """
    for entry in fields(options):
        given = getattr(options, entry.name)
        if is_dataclass(given):
            _settled(given)  # type: ignore[type-var]
        elif given == "" or (isinstance(given, list) and "" in given):
            raise ConfigError(
                f"--{entry.name.replace('_', '-')} must not be empty; is a variable of the shell not set? Leave the "
                "option out for its usual value."
            )
        elif isinstance(given, Path):
            try:
                setattr(options, entry.name, given.expanduser())
            except RuntimeError as error:
                raise ConfigError(f"--{entry.name.replace('_', '-')} must be a path; {given}: {error}") from error
    return options


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


def is_tty(console: Console) -> bool:
    """Return whether a console writes to a terminal: FORCE_COLOR does not make one of a file."""
    try:
        return console.is_terminal and console.file.isatty()
    except ValueError:  # the file is closed
        return False


def is_live(console: Console) -> bool:
    """Return whether what is shown can be drawn again in place: on a terminal with a cursor, so not with TERM=dumb."""
    return console.is_interactive and is_tty(console)


def pause(elapsed_s: float) -> float:
    """Return the seconds between two lines of progress of a work that has run so long: a log of a day stays short."""
    return max(LINE_EVERY_S, min(LONGEST_PAUSE_S, elapsed_s / 10))


def table(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Return rows of cells as aligned lines: numbers to the right, and cells folded between words if they do not fit.

    Args:
        rows: the heads, then the rows.
        width: columns of the terminal, or None to fold nothing.
    """
    columns = [[_WITH_UNIT.sub(_NO_BREAK, cell) for cell in column] for column in zip(*rows, strict=True)]
    natural = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    widths, room = list(natural), (width or sum(natural) + 2 * len(rows[0])) - 2 * (len(rows[0]) - 1)
    while sum(widths) > room and max(widths) > 1:
        folding = [place for place, each in enumerate(widths) if each > least[place]] or range(len(widths))
        widths[max(folding, key=widths.__getitem__)] -= 1
    shown = Table(box=None, pad_edge=False, show_edge=False)
    for column, size in zip(columns, widths, strict=True):
        shown.add_column(
            Text(column[0]), justify="right" if numeric(column[1:]) else "left", width=size, overflow="fold"
        )
    for row in zip(*(column[1:] for column in columns), strict=True):
        shown.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=sum(widths) + 2 * len(widths), force_terminal=False, highlight=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().replace(_NO_BREAK, " ").splitlines())


def numeric(cells: Sequence[str]) -> bool:
    """Return whether cells are numbers, which stand to the right."""
    return bool(cells) and all(NUMBER.fullmatch(cell.replace(_NO_BREAK, " ")) for cell in cells)


def width() -> int | None:
    """Return the columns of the terminal that ``out`` writes to, or None if it writes to a file or pipe."""
    return out.width if is_tty(out) else None


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the heads and rows of a table, folded on a terminal and whole elsewhere."""
    out.print(table(rows, width()), markup=False)


def print_folded(text: str) -> None:
    """Print a sentence that a terminal breaks between words; a command must not be broken and is not for this."""
    out.print(text, markup=False, soft_wrap=not is_tty(out))


def progress(unit: str, *, passing: bool = False) -> Progress:
    """Return a progress bar: title, bar, count with its unit, rate, time left. It is drawn on a terminal only.

    Args:
        unit: what is counted.
        passing: whether nothing of it stays when it ends.
    """
    whole = Column(no_wrap=True)
    return Progress(
        TextColumn("{task.description}", table_column=Column(), markup=False),
        *([BarColumn()] if out.width >= BAR_FROM else []),
        MofNCompleteColumn(table_column=whole),
        TextColumn(unit, table_column=whole, markup=False),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.fields[note]}", table_column=Column(), markup=False),
        console=out,
        transient=passing,
        disable=not is_live(out),
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
        self._bar, self._passing, self._note = progress(unit, passing=passing), passing, ""
        self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Counting:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__(None, None, None)
        if self._bar.disable and not self._passing and self._done > self._done_before:
            self._say(self._far(""), *filter(None, [self._note]), clock(time.monotonic() - self._started))

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
        self._note = f"{note}, {rate}" if note else rate
        self._bar.update(self._task, completed=self._done, note=self._note)
        if self._bar.disable and now - self._said > pause(now - self._started):
            self._said = now
            left_s = (now - self._started) * (self._total - self._done) / max(1, self._done - self._done_before)
            self._say(self._far(note), rate, f"{clock(left_s)} left")

    def _far(self, note: str) -> str:
        return f"{note}, {self._found:,} {self._unit}" if note else f"{self._done:,}/{self._total:,} {self._unit}"

    def _say(self, *words: str) -> None:
        out.print(f"{self._title}: {', '.join(words)}", markup=False)


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
