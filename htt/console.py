"""Command-line interface of all commands: options by tyro, progress by rich, errors in one sentence.

A script is a dataclass of options and a function of them::

    @dataclass
    class Options(console.Options):
        \"\"\"Draws a contact sheet.\"\"\"
        out: Path = Path("sheet.png")

    def main(options: Options) -> None: ...

    if __name__ == "__main__":
        console.run(Options, main)

``console.run`` exits with 0, with 2 for a ``UserError``, with 1 for other errors, and with 130 when the command was
interrupted: by Ctrl-C, or by SIGTERM, SIGHUP or SIGUSR1, which batch systems and closing terminals send.

An error while printing never ends the work: with a closed pipe, a lost terminal or an unprintable text, only the output
is lost.
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
from typing import Annotated, Any, ClassVar, TypeVar

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


def _optional(metavar: str) -> Any:
    """Return the marker of an option that is None unless given: its help text states the default, if it has one."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


OptionalText = Annotated[str | None, _optional("TEXT")]
OptionalInt = Annotated[int | None, _optional("INT")]
OptionalFloat = Annotated[float | None, _optional("FLOAT")]
OptionalPath = Annotated[Path | None, _optional("PATH")]
"""Types of options that are None unless given."""
LINE_EVERY_S = 10.0
"""Shortest time between two lines of progress if the output is not a terminal, s."""
LONGEST_PAUSE_S = 300.0
"""Longest time between two lines of progress, s."""
LOADING_S = 8.0
LOADING = "Loading Ray and torch; this takes a minute from a cold or busy disk ..."
"""Message printed after ``LOADING_S`` by commands that must load these modules first."""
_waiting: list[threading.Timer] = []
BAR_FROM = 100
"""Smallest terminal width, in columns, that gets a progress bar; a narrower one gets only the numbers."""
NUMBER = re.compile(
    r"\\?[<>] ?{0}|{0}( to {0})?( ?(%|points|mm|px|m|nats|ms|MB|s|min|h|k|M|G))?|[-–]|nan".format(
        r"[−+-]?\d[\d.,]*(?:e[+-]?\d+)?"
    )
)
"""Cell of a table that is a number, possibly with its unit, or a sign for a missing number."""
_WITH_UNIT = re.compile(r"(?<=\d) (?=(?:%|mm|px|m|nats|ms|MB|s|min|h|k|M|G)$)")
_NO_BREAK = "\ue000"
"""Placeholder of a space at which a table must not break a line."""

INTERRUPTED = 130
"""Exit code of an interrupted command."""
INTERRUPTS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name)]
"""Signals treated as Ctrl-C: SLURM sends SIGUSR1 and SIGTERM, a closing terminal SIGHUP."""
CLOSED = (errno.EPIPE, errno.EIO, errno.EBADF)
"""Error numbers of writing to an output that was closed."""


class Screen(Console):
    """Console that prints text literally, and whose write errors never end the work.

    Brackets and colons have no special meaning, and control characters are removed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Remove control characters from text; rich's own terminal control codes are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def print(self, *objects: Any, **options: Any) -> None:
        """Print and log."""
        if all(isinstance(one, str | Text) for one in objects):
            OURS.log(logging.WARNING if self.stderr else logging.INFO, " ".join(map(str, objects)).strip())
        super().print(*objects, **options)

    def _write_buffer(self) -> None:
        """Write the rendered text; called by rich from every thread that prints."""
        file = self.file
        try:
            super()._write_buffer()
        except (OSError, ValueError) as error:  # ValueError: the file is closed
            del self._buffer[:]
            if isinstance(error, ValueError) or error.errno in CLOSED:
                _to_nowhere(file)
                self.quiet = True
                self._report_closed(error)

    def _report_closed(self, error: Exception) -> None:
        OURS.warning("Cannot write the output any more (%s); the command continues.", error)
        if not self.stderr:
            err.print("The output was closed; the command continues without it.")


def _to_nowhere(file: Any) -> None:
    """Redirect later writes to a closed file to the null device, including Python's flush at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, file.fileno())
        os.close(nowhere)


def harmless(show: Callable[..., object]) -> Callable[..., None]:
    """Return ``show`` without its exceptions: an error of a display loses only output, and the first one is logged."""
    failed = False

    @functools.wraps(show)
    def shown(*arguments: Any, **options: Any) -> None:
        nonlocal failed
        try:
            show(*arguments, **options)
        except Exception as error:  # of any type: the work is more important than its display
            if not failed:
                OURS.warning("The display failed; the command continues.", exc_info=error)
            failed = True

    return shown


out = Screen(soft_wrap=True)
err = Screen(stderr=True, soft_wrap=True)


@dataclass
class Options:
    """Options of every command."""

    arguments: ClassVar[Sequence[str] | None] = None
    """Words that the options were parsed from, or None for those of this process."""
    debug: bool = field(default=False, kw_only=True)
    """Show the traceback of an error."""


OptionsT = TypeVar("OptionsT", bound=Options)


def print_later(text: str = LOADING, after_s: float = LOADING_S) -> threading.Timer:
    """Print a message after a delay unless the timer is cancelled; ``run`` cancels the timers of a script."""
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
    options.arguments = arguments  # type: ignore[misc]  # of this instance, and no option
    try:
        with _interruptible():
            main(_settled(options))
    except HTTError as error:
        if options.debug:
            raise
        print_message("error:", str(error), "bold red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("Stopped. Finished work is kept: repeat the command to resume.")
        sys.exit(INTERRUPTED)


def _open_outputs() -> None:
    """Open the null device for closed standard streams (``>&-``), or the next opened files would take their place.

    Characters that the terminal cannot show are printed as escapes.
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
    """Treat signals that end a command as Ctrl-C; signals that the parent process ignores (nohup) stay ignored."""
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
    else:  # started in the background, where a shell ignores Ctrl-C
        raise KeyboardInterrupt


def print_message(head: str, text: str, style: str = "bold yellow") -> None:
    """Print a sentence with its head, such as "warning:", on the error stream."""
    err.print(Text.assemble((head, style), f" {text}"))


def program() -> str:
    """Return the command that started this process: ``python -m htt.evaluate``, ``python tune/search.py``."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return f"python -m {spec.name.removesuffix('.__main__')}"
    script = os.path.relpath(sys.argv[0])
    return f"python {shlex.quote(sys.argv[0] if script.startswith('..') else script)}"


def _settled(options: OptionsT) -> OptionsT:
    """Return the options with every ``~`` in a path expanded.

    Raises:
        ConfigError: an option is empty, as from an unset shell variable, or ``~`` has no home folder.
    """
    for entry in fields(options):
        given = getattr(options, entry.name)
        if is_dataclass(given):
            _settled(given)  # type: ignore[type-var]
        elif given == "" or (isinstance(given, list | tuple) and "" in given):
            raise ConfigError(
                f"--{entry.name.replace('_', '-')} is empty. Is a shell variable unset? Leave the option out to "
                "use its default."
            )
        elif isinstance(given, Path):
            try:
                setattr(options, entry.name, given.expanduser())
            except RuntimeError as error:
                raise ConfigError(f"Invalid path --{entry.name.replace('_', '-')} {given}: {error}") from error
    return options


def command(script: str, options: Options) -> str:
    """Return the command line of a script with these options, without those that have their default.

    Args:
        script: such as "tune/ablate.py".
        options: options that all have a default.
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
    """Return whether a console writes to a terminal; FORCE_COLOR does not count."""
    try:
        return console.is_terminal and console.file.isatty()
    except ValueError:  # the file is closed
        return False


def is_live(console: Console) -> bool:
    """Return whether output can be redrawn in place: on a terminal with a cursor, so not with TERM=dumb."""
    return console.is_interactive and is_tty(console)


def pause(elapsed_s: float) -> float:
    """Return the seconds between two lines of progress, growing with the elapsed time: a log of a day stays short."""
    return max(LINE_EVERY_S, min(LONGEST_PAUSE_S, elapsed_s / 10))


def table(rows: Sequence[Sequence[str]], width: int | None = None, numbers: Sequence[bool] | None = None) -> str:
    """Return rows of cells as aligned lines: numbers right-aligned, and cells wrapped between words if too wide.

    Args:
        rows: the heads, then the rows.
        width: columns of the terminal, or None to wrap nothing.
        numbers: True for each column of numbers, or None to recognise them by their text.
    """
    columns = [[_WITH_UNIT.sub(_NO_BREAK, cell) for cell in column] for column in zip(*rows, strict=True)]
    natural = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    widths, room = list(natural), (width or sum(natural) + 2 * len(rows[0])) - 2 * (len(rows[0]) - 1)
    while sum(widths) > room and max(widths) > 1:
        folding = [index for index, each in enumerate(widths) if each > least[index]] or range(len(widths))
        widths[max(folding, key=widths.__getitem__)] -= 1
    shown = Table(box=None, pad_edge=False, show_edge=False)
    numbers = numbers or [numeric(column[1:]) for column in columns]
    for column, size, number in zip(columns, widths, numbers, strict=True):
        shown.add_column(Text(column[0]), justify="right" if number else "left", width=size, overflow="fold")
    for row in zip(*(column[1:] for column in columns), strict=True):
        shown.add_row(*map(Text, row))
    text = io.StringIO()
    Console(file=text, width=sum(widths) + 2 * len(widths), force_terminal=False, highlight=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().replace(_NO_BREAK, " ").splitlines())


def numeric(cells: Sequence[str]) -> bool:
    """Return whether cells are numbers, which are right-aligned."""
    return bool(cells) and all(NUMBER.fullmatch(cell.replace(_NO_BREAK, " ")) for cell in cells)


def width() -> int | None:
    """Return the columns of the terminal that ``out`` writes to, or None if it writes to a file or pipe."""
    return out.width if is_tty(out) else None


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print the heads and rows of a table, wrapped on a terminal and whole elsewhere."""
    out.print(table(rows, width()), markup=False)


def print_folded(text: str) -> None:
    """Print a sentence wrapped between words on a terminal; not for commands, which must not be broken."""
    out.print(text, markup=False, soft_wrap=not is_tty(out))


def progress(unit: str, *, passing: bool = False) -> Progress:
    """Return a progress bar: title, bar, count with its unit, rate, time left. It is drawn on a terminal only.

    Args:
        unit: unit of the count.
        passing: whether the bar is removed when it ends.
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
    """Progress of a long task: a bar on a terminal, and a line at intervals elsewhere.

    ``with console.Counting("Evaluating", 254, "windows") as counting: ... counting.advance(2)``
    """

    def __init__(
        self, title: str, total: int, unit: str, *, done: int = 0, found: int = 0, passing: bool = False
    ) -> None:
        """Store the settings; output starts when the context is entered.

        Args:
            title: such as "Evaluating h2o val".
            total: total amount of work.
            unit: unit of the count, such as "frames".
            done: amount done earlier; it counts as done, but not in the rate.
            found: results of the amount done earlier.
            passing: whether the bar is removed from a terminal when it ends.
        """
        self._title, self._total, self._unit = title, total, unit
        self._done = self._done_before = done
        self._found = self._found_before = found
        self._started = self._printed_s = time.monotonic()
        self._bar, self._passing, self._note = progress(unit, passing=passing), passing, ""
        self._task = self._bar.add_task(title, total=total, completed=done, note="")

    def __enter__(self) -> Counting:
        self._bar.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.__exit__(None, None, None)
        if self._bar.disable and not self._passing and self._done > self._done_before:
            self._print(self._count(""), *filter(None, [self._note]), clock(time.monotonic() - self._started))

    def advance(self, count: int, found: int | None = None, note: str = "") -> None:
        """Advance the count.

        Args:
            count: amount done, of the total.
            found: number of results, or None if equal to ``count``.
            note: note on something else that is counted, such as "3/40 clips".
        """
        self._done += count
        self._found += count if found is None else found
        now = time.monotonic()
        rate = f"{(self._found - self._found_before) / max(now - self._started, 1e-3):,.0f} {self._unit}/s"
        self._note = f"{note}, {rate}" if note else rate
        self._bar.update(self._task, completed=self._done, note=self._note)
        if self._bar.disable and now - self._printed_s > pause(now - self._started):
            self._printed_s = now
            left_s = (now - self._started) * (self._total - self._done) / max(1, self._done - self._done_before)
            self._print(self._count(note), rate, f"{clock(left_s)} left")

    def _count(self, note: str) -> str:
        return f"{note}, {self._found:,} {self._unit}" if note else f"{self._done:,}/{self._total:,} {self._unit}"

    def _print(self, *words: str) -> None:
        out.print(f"{self._title}: {', '.join(words)}", markup=False)


def clock(seconds: float) -> str:
    """Return seconds as 1:02:03 or 2:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
