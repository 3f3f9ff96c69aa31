"""Every error a user can meet, in one tree.

::

    HTTError
    ├── UserError                the user can mend it: exit code 2, one sentence, no traceback
    │   ├── ConfigError          a field, value, space or override that cannot be
    │   ├── DataError            data missing, broken, or not what its manifest promises
    │   ├── CheckpointError      a checkpoint that is missing, damaged or of another shape
    │   │   └── DamagedCheckpointError  its bytes are not those that were written
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
import reprlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

SHOWN = 200
"""Most characters of a value in a message."""
LISTED = 50
"""Most faults that one message lists; the rest are counted."""
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
        lines = [f"  - {fault}" for fault in faults[:LISTED]]
        lines += [f"  and {len(faults) - LISTED} more"] if len(faults) > LISTED else []
        error = cls("\n".join([f"{len(faults)} values cannot be:", *lines]))
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


class DamagedCheckpointError(CheckpointError):
    """The bytes of a checkpoint are not those that were written."""


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


def of_name(name: str | None) -> type[HTTError]:
    """The class of that name, as a trial's row has it; of any other name, and of none, ``TrainingError``."""
    kind = globals().get(name or "")
    return kind if isinstance(kind, type) and issubclass(kind, HTTError) else TrainingError


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

    near = difflib.get_close_matches(name[:SHOWN], list(known), n=1, cutoff=0.5)
    return f" Did you mean '{near[0]}'?" if near else ""


class _Repr(reprlib.Repr):
    """Python's own notation of a value, without its parts beyond a limit."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 4, 4 * SHOWN, 4 * SHOWN, 4 * SHOWN
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = 10

    def repr_int(self, x: int, level: int) -> str:
        """A number; Python refuses to write one of more than 4,300 digits."""
        return super().repr_int(x, level) if x.bit_length() < 4000 else f"a number of {x.bit_length():,} bits"


def shown(value: object, *, quoted: bool = True) -> str:
    """A value as messages show it, of at most ``SHOWN`` characters.

    Args:
        value: whatever was given.
        quoted: in Python's notation, with quotation marks around a text; else a text as it is.

    >>> shown("a" * 300, quoted=False)[-3:]
    'aa…'
    """
    text = value[: SHOWN + 1] if isinstance(value, str) and not quoted else _Repr().repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


@contextlib.contextmanager
def storage_errors(path: str | Path) -> Iterator[None]:
    """Turn the operating system's refusals while writing below ``path`` into a ``StorageError``."""
    try:
        yield
    except OSError as error:
        if refused := refusal(error, path):
            raise refused from error
        raise


def refusal(error: OSError, path: str | Path) -> StorageError | None:
    """The operating system's refusal to read or write below ``path``, in a sentence; none: the error is another."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"Writing below {_full_place(Path(path), error)} needs free space; the disk is full. Free some space or "
            "choose another place; what was finished is kept and the same command goes on from there."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"{path} must be writable; {error.strerror}. Choose a place you may write to.")
    if error.errno in (errno.EIO, errno.ESTALE):
        return StorageError(
            f"{path} must stay readable and writable; {error.strerror}. Look at its disk, or at the connection to its "
            "server; what was finished is kept and the same command goes on from there."
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return StorageError(
            f"Working below {path} needs open files; {error.strerror}. Raise the limit (ulimit -n 65536); what was "
            "finished is kept and the same command goes on from there."
        )
    return None


def chain(error: BaseException, *names: str) -> Iterator[BaseException]:
    """Yield an error and all that caused it, each once: a chain of causes may be a circle.

    Args:
        error: the last one.
        names: of further attributes that hold an error, such as __context__, or a mapping whose values are errors.
    """
    waiting, seen = [error], set()
    while waiting:
        here = waiting.pop(0)
        if id(here) in seen:
            continue
        seen.add(id(here))
        yield here
        inner: list[object] = []
        for found in (getattr(here, name, None) for name in ("__cause__", *names)):
            inner += found.values() if isinstance(found, Mapping) else [found]
        waiting += [one for one in inner if isinstance(one, BaseException)]
