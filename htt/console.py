"""How every command of the project speaks: options by tyro, progress by rich, and errors as one sentence.

A script is a dataclass of options and a function of them::

    @dataclass
    class Options(console.Options):
        \"\"\"Draws a contact sheet.\"\"\"
        out: Path = Path("sheet.png")

    def main(options: Options) -> None: ...

    if __name__ == "__main__":
        console.run(Options, main)

``console.run`` leaves with 0, with 2 for what the user can mend, with 1 for the rest, and with 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.text import Text

from htt.errors import ConfigError, HTTError
from htt.text import printable

Assignments = Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH=VALUE")]
"""``--set path=value``, any number of times."""

LINE_EVERY_S = 15.0
"""Where the output is no terminal, a line says so often how far a work is."""


class Screen(Console):
    """A console that shows text as it is: brackets and colons mean nothing, and control characters are left out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What all that is shown passes; rich's own commands to the terminal are kept."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


out = Screen(soft_wrap=True)
err = Screen(soft_wrap=True, stderr=True)


@dataclass
class Options:
    """What every command takes."""

    debug: bool = field(default=False, kw_only=True)
    """Show the traceback of an error."""


OptionsT = TypeVar("OptionsT", bound=Options)


def run(kind: type[OptionsT], main: Callable[[OptionsT], None], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line into ``kind``, call ``main``, and leave the process with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that a terminal has not is shown by its number
            stream.reconfigure(errors="backslashreplace")
    options = tyro.cli(kind, args=arguments, prog=program())
    try:
        main(_settled(options))
    except HTTError as error:
        if options.debug:
            raise
        say_error("error:", str(error), "bold red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("stopped.")
        sys.exit(130)


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


def progress(unit: str, *, passing: bool = False) -> Progress:
    """A progress bar: title, bar, count with its unit, rate, time left. Elsewhere than on a terminal, its end alone.

    One that is ``passing`` is gone when it ends, and shows nothing elsewhere than on a terminal.
    """
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[note]}", markup=False),
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
