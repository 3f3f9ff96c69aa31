"""Error classes of the project, in one tree.

::

    HTTError
    ├── UserError                the user can fix it: exit code 2, one sentence, no traceback
    │   ├── ConfigError          an invalid field, value, space or override
    │   ├── DataError            data missing, broken, or not as their manifest says
    │   ├── CheckpointError      a checkpoint that is missing, damaged or does not fit
    │   │   └── DamagedCheckpointError  its bytes are not those that were written
    │   ├── ClusterError         machines that are unreachable or lack a requested resource
    │   ├── RunError             a run folder that is missing, in use or of another experiment
    │   └── StorageError         a disk or object store that refuses (full, read-only, gone)
    └── TrainingError            a failed training: exit code 1
        ├── DeviceMemoryError    its model or batch does not fit into the memory of the device
        └── NonFiniteLossError   a loss term became NaN or infinite; names epoch, step and term

A message states the rule, the value that breaks it and the remedy, and lists all faults at once.
"""

from __future__ import annotations

import contextlib
import errno
import reprlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SHOWN = 200
"""Largest number of characters of a value in a message."""
LISTED = 50
"""Largest number of faults listed in one message; the others are counted."""
REPEAT = "Finished work is kept: repeat the command to resume."
LITTLE_BYTES = 2**20
"""Free space, bytes, below which a disk counts as full."""


class HTTError(Exception):
    """Base class of all errors of the project. ``exit_code`` is the exit code of a script that ends with it."""

    exit_code = 1


class UserError(HTTError):
    """Error that the user can fix."""

    exit_code = 2


class ConfigError(UserError):
    """Violation of a rule by a configuration, space or override."""

    @classmethod
    def of(cls, faults: Sequence[str]) -> ConfigError:
        """Return one error for all faults, each a sentence."""
        if len(faults) == 1:
            return cls(faults[0])
        error = cls(f"{len(faults)} invalid settings:\n{bullets(faults)}")
        error._faults = list(faults)
        return error

    @property
    def faults(self) -> list[str]:
        """Each fault by itself."""
        return self._faults or [str(self)]

    _faults: list[str] | None = None


class DataError(UserError):
    """Data that are missing, broken, or not as their manifest says."""


class CheckpointError(UserError):
    """Checkpoint that is missing, damaged or does not fit."""


class DamagedCheckpointError(CheckpointError):
    """Checkpoint whose bytes are not those that were written."""


class ClusterError(UserError):
    """Machines that are unreachable or lack a requested resource."""


class RunError(UserError):
    """Run folder that is missing, in use, or of another experiment."""


class StorageError(UserError):
    """Disk or object store that refuses to read or write a file."""


class TrainingError(HTTError):
    """Failed training."""


class DeviceMemoryError(TrainingError):
    """Model or batch that does not fit into the memory of the device."""


class NonFiniteLossError(TrainingError):
    """Loss term that became NaN or infinite."""

    def __init__(self, epoch: int, step: int, terms: Sequence[str]) -> None:
        super().__init__(epoch, step, tuple(terms))
        self.epoch, self.step, self.terms = epoch, step, tuple(terms)

    def __str__(self) -> str:
        return (
            f"The loss is not finite: {_and(self.terms)} became NaN or infinite in epoch {self.epoch}, "
            f"step {self.step}. Lower optim.lr, raise optim.warmup_epochs or set optim.clip_norm."
        )


def error_class(name: str | None) -> type[HTTError]:
    """Return the class of that name, as in a trial's row; ``TrainingError`` for any other name and for None."""
    kind = globals().get(name or "")
    return kind if isinstance(kind, type) and issubclass(kind, HTTError) else TrainingError


def _and(words: Sequence[str]) -> str:
    """Return words as ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _full_folder(path: Path, error: OSError) -> str:
    """Return the full folder: that of the error's file, or the temporary folder if ``path`` has space, or ``path``."""
    if isinstance(error.filename, str) and not Path(error.filename).absolute().is_relative_to(path.absolute()):
        return str(Path(error.filename).parent)
    temporary = Path(tempfile.gettempdir())
    if _free_bytes(temporary) < LITTLE_BYTES <= _free_bytes(path):
        return f"the temporary folder {temporary} (TMPDIR)"
    return str(path)


def _free_bytes(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist yet."""
    existing = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    return shutil.disk_usage(existing).free


def bullets(faults: Sequence[object], most: int = LISTED) -> str:
    """Return the first faults as lines of a list, with the number of the others."""
    more = [f"and {len(faults) - most:,} more"] if len(faults) > most else []
    return "\n".join(f"  - {fault}" for fault in [*faults[:most], *more])


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return `` Did you mean 'depth'?`` for the nearest known name, or an empty string.

    >>> did_you_mean("resnet19", ["resnet18", "lstm"])
    " Did you mean 'resnet18'?"
    """
    import difflib

    near = difflib.get_close_matches(name[:SHOWN], list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


class _Repr(reprlib.Repr):
    """``repr`` with limits on the length of values."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 4, 4 * SHOWN, 4 * SHOWN, 4 * SHOWN
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 10

    def repr_int(self, x: int, level: int) -> str:
        """Return a number as text; Python raises for a number of more than 4,300 digits."""
        return super().repr_int(x, level) if x.bit_length() < 4000 else f"a number of {x.bit_length():,} bits"


def shown(value: object, *, quoted: bool = True) -> str:
    """Return a value as text for a message, of at most ``SHOWN`` characters.

    Args:
        value: any value.
        quoted: whether to write it as ``repr`` does, with quotation marks around a string; else a string is unchanged.

    >>> shown("a" * 300, quoted=False)[-3:]
    'aa…'
    """
    text = value[: SHOWN + 1] if isinstance(value, str) and not quoted else _Repr().repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


@contextlib.contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Convert the operating system's errors while writing below ``path`` to ``StorageError``."""
    try:
        yield
    except OSError as error:
        if refused := refusal(error, path):
            raise refused from error
        raise


def refusal(error: OSError, path: str | Path) -> StorageError | None:
    """Return a ``StorageError`` if the system refused to read or write below ``path``, or None for other errors."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"No free space to write below {_full_folder(Path(path), error)}: the disk is full. Free some space or "
            f"choose another folder. {REPEAT}"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"Cannot write to {path}: {error.strerror}. Choose a folder with write permission.")
    if error.errno in (errno.EIO, errno.ESTALE):
        return StorageError(
            f"Cannot read or write {path}: {error.strerror}. Check its disk, or the connection to its server. {REPEAT}"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageError(
            f"Cannot open more files below {path}: {error.strerror}. Raise the limit (ulimit -n 65536). {REPEAT}"
        )
    return None


def chain(error: BaseException, *names: str) -> Iterator[BaseException]:
    """Yield an error and all its causes, each once, because a chain of causes may be a circle.

    Args:
        error: the last error.
        names: further attributes that hold an error, such as __context__, or a mapping whose values are errors.
    """
    waiting, seen = [error], set()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner: list[object] = []
        for linked in (getattr(current, name, None) for name in ("__cause__", *names)):
            inner += linked.values() if isinstance(linked, Mapping) else [linked]
        waiting += [one for one in inner if isinstance(one, BaseException)]
