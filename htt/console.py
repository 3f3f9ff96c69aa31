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

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from htt.errors import HTTError

Assignments = Annotated[list[str], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH=VALUE")]
"""``--set path=value``, any number of times."""

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


@dataclass
class Options:
    """What every command takes."""

    debug: bool = field(default=False, kw_only=True)
    """Show the traceback of an error."""


OptionsT = TypeVar("OptionsT", bound=Options)


def run(kind: type[OptionsT], main: Callable[[OptionsT], None], arguments: Sequence[str] | None = None) -> None:
    """Parse the command line into ``kind``, call ``main``, and leave the process with its exit code."""
    options = tyro.cli(kind, args=arguments)
    try:
        main(options)
    except HTTError as error:
        if options.debug:
            raise
        err.print(f"[bold red]error:[/] {_escape(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        err.print("stopped.")
        sys.exit(130)


def progress(unit: str) -> Progress:
    """A progress bar: title, bar, count with its unit, rate, time left. Quiet where the output is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=out,
    )


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
