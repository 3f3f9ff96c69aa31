"""Every error a user can meet, in one tree.

::

    HTTError
    ├── UserError                the user can mend it: exit code 2, one sentence, no traceback
    │   ├── ConfigError          a field, value, space or override that cannot be
    │   ├── DataError            data missing, broken, or not what its manifest promises
    │   ├── CheckpointError      a checkpoint that is missing, damaged or of another shape
    │   ├── ClusterError         machines that cannot be reached or lack what was asked for
    │   ├── RunError             a run folder that is missing, busy or of another question
    │   └── StorageError         a disk or object store that refuses (full, read-only, gone)
    └── TrainingError            training went wrong: exit code 1
        └── NonFiniteLossError   a loss term became NaN or infinite; names epoch, step and term

A message says the rule, the value that broke it and the remedy, and lists every offender at once.
"""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

LITTLE_BYTES = 2**20
"""A disk with less free is full."""


class HTTError(Exception):
    """Root of the tree. ``exit_code`` is what a script that meets it leaves with."""

    exit_code = 1


class UserError(HTTError):
    """Something the user can mend."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration, space or override breaks a rule."""

    @classmethod
    def of(cls, faults: Sequence[str]) -> ConfigError:
        """One error for all faults, each a sentence."""
        if len(faults) == 1:
            return cls(faults[0])
        error = cls(f"{len(faults)} values cannot be:\n" + "\n".join(f"  - {fault}" for fault in faults))
        error._faults = list(faults)
        return error

    @property
    def faults(self) -> list[str]:
        """Each fault by itself."""
        return self._faults or [str(self)]

    _faults: list[str] | None = None


class DataError(UserError):
    """Data are missing, broken, or not what their manifest promises."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged or of another shape."""


class ClusterError(UserError):
    """Machines cannot be reached or lack what was asked for."""


class RunError(UserError):
    """A run folder is missing, in use, or holds another question."""


class StorageError(UserError):
    """A disk or object store refuses to take or give a file."""


class TrainingError(HTTError):
    """Training went wrong."""


class NonFiniteLossError(TrainingError):
    """A loss term became NaN or infinite."""

    def __init__(self, epoch: int, step: int, terms: Sequence[str]) -> None:
        super().__init__(epoch, step, tuple(terms))
        self.epoch, self.step, self.terms = epoch, step, tuple(terms)

    def __str__(self) -> str:
        return (
            f"The loss must stay finite; {_and(self.terms)} became NaN or infinite in epoch {self.epoch}, "
            f"step {self.step}. Lower optim.lr, raise optim.warmup_epochs or set optim.clip_norm."
        )


def _and(words: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _full_place(path: Path, error: OSError) -> str:
    """Where there is no room: what the system names, or the temporary folder if that is full and ``path`` is not."""
    if isinstance(error.filename, str) and not Path(error.filename).absolute().is_relative_to(path.absolute()):
        return str(Path(error.filename).parent)
    temporary = Path(tempfile.gettempdir())
    if _free_bytes(temporary) < LITTLE_BYTES <= _free_bytes(path):
        return f"the temporary folder {temporary} (TMPDIR)"
    return str(path)


def _free_bytes(path: Path) -> int:
    """Of the disk that a path is on, or will be."""
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`` Did you mean 'depth'?`` for the nearest known name, or an empty string.

    >>> did_you_mean("resnet19", ["resnet18", "lstm"])
    " Did you mean 'resnet18'?"
    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


@contextlib.contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing below ``path`` into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"Writing below {_full_place(Path(path), error)} needs free space; the disk is full. Free some space "
                "or choose another place; what was finished is kept and the same command goes on from there."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"{path} must be writable; {error.strerror}. Choose a place you may write to."
            ) from error
        raise
