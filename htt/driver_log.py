"""Log file of a run: messages of Ray and of the project, with times, independent of the terminal.

Ray's loggers print on the terminal by themselves, in the middle of a display. ``off_screen`` removes them from the
terminal; ``written`` sends them to ``driver.log`` in the run's folder, together with the output of ``htt.console``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

FILE = "driver.log"
OURS = logging.getLogger("htt")
"""Logger of the output of ``htt.console``, and of faults that do not end the run."""
OURS.setLevel(logging.INFO)
OURS.propagate = False
OURS.addHandler(logging.NullHandler())  # without any handler, Python prints warnings on the terminal


class _File(logging.FileHandler):
    """File handler whose write errors lose lines but never end the work."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name is Python's
        """Ignore a line that could not be written; called by Python."""

    def close(self) -> None:
        """Close the file, and ignore errors of the disk."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def off_screen() -> Iterator[None]:
    """Keep Ray's log off the terminal within a ``with`` block."""
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
    """Append the logs of Ray and the project to ``driver.log`` in a folder within a ``with`` block."""
    try:
        handler: logging.Handler = _File(folder / FILE, encoding="utf-8")
    except OSError:  # a disk that cannot be written is reported by the code that needs it
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
