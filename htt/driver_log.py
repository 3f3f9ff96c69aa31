"""The log file of a run: what Ray and the project say while it goes on, with times, whatever the terminal shows.

Ray's loggers print on the terminal by themselves, in the middle of a display. ``off_screen`` takes them from there;
``written`` sends them to ``driver.log`` in the run's folder, beside all that ``htt.console`` prints.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

FILE = "driver.log"
OURS = logging.getLogger("htt")
"""What ``htt.console`` prints, and faults that end nothing."""
OURS.setLevel(logging.INFO)
OURS.propagate = False
OURS.addHandler(logging.NullHandler())  # without any handler, Python prints warnings on the terminal


class _File(logging.FileHandler):
    """A log that cannot be written costs its lines, never the work."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name is Python's
        """Called by Python where a line could not be written."""

    def close(self) -> None:
        """Close the file, if the disk lets it."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def off_screen() -> Iterator[None]:
    """Take Ray's log from the terminal for the length of a ``with`` block."""
    logger = logging.getLogger("ray")
    level, propagate = logger.level, logger.propagate
    screens = [one for one in logger.handlers if not isinstance(one, logging.FileHandler | logging.NullHandler)]
    nowhere = logging.NullHandler()
    for screen in screens:
        logger.removeHandler(screen)
    logger.addHandler(nowhere)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(nowhere)
        for screen in screens:
            logger.addHandler(screen)
        logger.propagate = propagate
        logger.setLevel(level)


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """Append what Ray and the project log to ``driver.log`` in a folder, for the length of a ``with`` block."""
    try:
        handler: logging.Handler = _File(folder / FILE, encoding="utf-8")
    except OSError:  # a disk that refuses is told by what needs it
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    loggers = [logging.getLogger("ray"), OURS]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()
