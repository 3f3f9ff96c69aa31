"""The folder of a final training, readable without Ray and torch.

It holds ``config.yaml`` (what is trained), ``metrics.json`` (every epoch, and the final evaluation on the validation
and the test split), ``checkpoint/`` (read by ``htt.training.checkpoint.load``), ``tensorboard/`` and Ray Train's own
files, from which a training goes on. A ``.lock`` says which process works on it.

With a ``--storage`` Ray Train's files are there, in ``<name>-train``; beside them ``<name>/config.yaml`` says what the
name stands for, to whoever comes from another machine, and in a folder ``<name>/tensorboard/`` is.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from cluster import revision
from cluster import storage as stores
from cluster.lock import Lease, claimed
from htt import files
from htt.config import Config, from_yaml, read, to_yaml
from htt.data.location import data_key
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, RunError, shown, storage_errors

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
ASKED_FILE = "asked.yaml"
"""What a search or a study has in its folder, and a final training has not."""
CHECKPOINT_FOLDER = "checkpoint"
LOCK = ".lock"
LONGEST_NAME = 100
"""Letters of a run's name: files have it in theirs, and a file's name has 255 at most."""
TRIES = 10
"""So often a lock is taken that its owner is just removing."""
STORAGE_FILE = ".storage"
"""The ``--storage`` a run was begun with; empty: none."""
BEGAN_FILE = "began.json"
"""What a run was started with: the key of its data, its commit, and the code, with that of later resumes."""

try:
    import fcntl
except ImportError:  # another system: no lock, and no protection from two drivers
    fcntl = None  # type: ignore[assignment]


class EpochLog:
    """``metrics.json``: every epoch as it comes, then the final evaluation. A resumed run goes on with the old file."""

    def __init__(self, file: Path) -> None:
        """Read the file, if there is one.

        Raises:
            RunError: it is not what a training wrote.
        """
        self._file = file
        try:
            found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            self.epochs: dict[int, dict[str, float]] = {int(entry["epoch"]): entry for entry in found.get("epochs", [])}
            self.final: dict[str, float] = {name: float(value) for name, value in found.get("final", {}).items()}
            self.incomplete: list[str] = list(found.get("incomplete", []))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(
                f"{file} is damaged ({type(error).__name__}: {shown(str(error), quoted=False)}). Remove it and resume: "
                "the last checkpoint knows the epochs before it, and the file is written again."
            ) from None

    def add(self, metrics: dict[str, float]) -> None:
        """Write down an epoch; one that was repeated after a failure replaces the first."""
        self.epochs[int(metrics["epoch"])] = metrics
        self._write()

    def finish(
        self, epochs: Sequence[dict[str, float]], final: dict[str, float], incomplete: Sequence[str] = ()
    ) -> None:
        """Write down the final evaluation, epochs that workers finished while nobody listened, and splits with gaps."""
        self.epochs |= {int(metrics["epoch"]): metrics for metrics in epochs}
        self.final, self.incomplete = final, list(incomplete)
        self._write()

    def _write(self) -> None:
        lacking = {"incomplete": self.incomplete} if self.incomplete else {}
        plain = {"final": self.final, **lacking, "epochs": [self.epochs[epoch] for epoch in sorted(self.epochs)]}
        with storage_errors(self._file):
            beside = self._file.with_suffix(".tmp")
            beside.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
            beside.replace(self._file)


@contextlib.contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """Work on a run alone; the lock dies with its owner.

    Raises:
        RunError: another process works on it.
    """
    with _locked(folder / LOCK) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _locked(path: Path) -> TextIO:
    """Open a lock file and lock it; one that its last owner removed meanwhile locks nothing, and the next is taken."""
    for _ in range(TRIES):
        with storage_errors(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as failing:
                file = failing.enter_context(path.open("a+", encoding="utf-8"))
                _lock(file, path.parent)
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    failing.pop_all()
                    return file
    raise RunError(f"One process at a time works on a run; {path} is removed again and again. Look who does that.")


def _lock(file: TextIO, folder: Path) -> None:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise RunError(
            f"One process at a time works on a run; {folder} is taken by process {file.read() or '?'}. "
            "Wait for it, or stop it with Ctrl-C and resume."
        ) from None
    except OSError:
        pass  # a file system without locks, as some clusters share: no protection there either


@contextlib.contextmanager
def alone(folder: Path, storage: str | None) -> Iterator[Lease | None]:
    """Work on a run alone, also of all machines that share its ``--storage``.

    Of a bucket, another process may take the run over from one that it hears nothing of. Then this one is interrupted,
    as by Ctrl-C, and nothing is written any more.

    Raises:
        RunError: another process works on it.
        StorageError: the storage refuses, or another process has taken the run over.
    """
    lease: Lease | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_process(folder))
        place = stores.below(storage, folder.name) if storage else str(folder)
        if is_remote(place):
            there = stores.ask(place, lambda system, path: (system, path))
            lease = stack.enter_context(claimed(place, *there, on_loss=_interrupt))
        elif Path(place).resolve() != folder.resolve():
            stack.enter_context(one_process(Path(place)))
        try:
            yield lease
        except KeyboardInterrupt:
            if lease:
                lease.check()
            raise


def _interrupt() -> None:
    """Interrupt the main thread, which may wait for workers."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def check_run_name(name: str, option: str = "--name") -> None:
    """Raise a ``ConfigError`` for a name that is no name of a folder, here or in a bucket, on every system."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(f"{option} takes letters, digits, dots, dashes and underscores; got '{name[:LONGEST_NAME]}'.")
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"{option} takes at most {LONGEST_NAME} letters; got {len(name)}: {name[:20]}...")


@contextlib.contextmanager
def named(given: str | None, runs: Path, stem: str, storage: str | None) -> Iterator[str]:
    """The name of a run: the one that is given, or one that no other run has, such as "final-20260101-120000".

    In the block the folder of such a name is there, so that nobody takes it; it goes if nothing was put there.

    Args:
        given: by the user; none: find one.
        runs: the folder of all runs on this machine.
        stem: what it begins with; the time follows.
        storage: where else the run is kept. In a bucket nobody sees what others are about to take: the name ends in
            letters that no other is given.

    Raises:
        ConfigError: what is given is no name.
    """
    if given is not None:
        check_run_name(given)
        yield given
        return
    made = [path for path in (runs, *runs.parents) if not path.exists()]
    name = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    name += f"-{secrets.token_hex(3)}" if storage and is_remote(storage) else ""
    more = (f"{name}-{number}" for number in itertools.count(2))
    with storage_errors(runs):
        folder = next(filter(_is_new, (runs / each for each in itertools.chain([name], more))))
    try:
        yield folder.name
    finally:
        with contextlib.suppress(OSError):
            for path in (folder, *made):
                path.rmdir()


def _is_new(folder: Path) -> bool:
    """Make a folder; whether nobody else has."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def check_folder(folder: Path, config: Config, *, resume: bool, storage: str | None = None) -> None:
    """Check that a run's name is free, or that the same training is resumed, and that nobody works on it.

    Args:
        folder: of the run.
        config: the training.
        resume: whether it is to go on.
        storage: where else the run keeps things, ``cluster.storage.settled``; none: nowhere.

    Raises:
        RunError: the name is taken, what is to be resumed is another training or none, or a process works there.
        StorageError: the storage does not answer.
    """
    check_name(folder, config, resume=resume, storage=storage)
    if resume and folder.exists():
        with one_process(folder):
            return


def check_name(folder: Path, config: Config, *, resume: bool, storage: str | None = None) -> None:
    """The same, for the process that works there. Ray Train itself would go on with whatever has the name it is given.

    A storage tells of trainings that were begun from other machines, which may be gone.
    """
    file = folder / CONFIG_FILE
    known = {str(file): read(file)} if file.exists() else {}
    if storage:
        there = stores.below(storage, folder.name, CONFIG_FILE)
        text = stores.read_text(there)
        known |= {} if text is None else {there: from_yaml(text, there)}
    if resume:
        if not known:
            where = f"{file}, nor {there}" if storage else file
            raise RunError(f"--resume needs a run that was started; there is no {where}.")
        for place, began in known.items():
            if began.fingerprint() != config.fingerprint():
                raise RunError(f"--resume goes on with the same training; {place} holds another configuration.")
        _check_storage(folder, storage)
        return
    taken = [place.partition(f"/{CONFIG_FILE}")[0] for place in known]
    if storage and not taken and not stores.is_empty(train := stores.below(storage, train_name(folder))):
        taken = [train]
    if (folder / ASKED_FILE).exists():
        raise RunError(f"A run needs a name of its own; {folder} is a search or a study. Choose another --name.")
    if taken:
        raise RunError(f"A run needs a name of its own; {taken[0]} is taken. Choose another --name, or --resume it.")


def began(folder: Path, storage: str | None = None) -> dict[str, Any]:
    """Return what a run was started with: ``data``, ``commit`` and ``codes``; empty where an older version did it.

    Args:
        folder: of the run.
        storage: where else to look, where this machine has nothing.

    Raises:
        StorageError: the storage does not answer.
    """
    file = folder / BEGAN_FILE
    text = file.read_text(encoding="utf-8") if file.exists() else None
    if text is None and storage:
        text = stores.read_text(stores.below(storage, folder.name, BEGAN_FILE))
    try:
        return dict(json.loads(text or "{}"))
    except ValueError:  # cut short by a full disk: as if nobody had noted it
        return {}


def check_same(folder: Path, config: Config, *, storage: str | None = None, share_any: bool = False) -> None:
    """Check that a run which is resumed finds the data and the code that it was started with.

    Args:
        folder: of the run.
        config: the training.
        storage: where else the run keeps things; none: nowhere.
        share_any: whether other code may go on with it.

    Raises:
        RunError: the data or the code are others; the message says what there was and what there is.
        DataError: there are no data.
    """
    known, now = began(folder, storage), data_key(config)
    if known.get("data") not in (None, now):
        place = config.data.root or "the rendered benchmark of this version"
        raise RunError(
            f"Cannot resume {folder}: its data changed. It was started with {known['data']}, and {place} is now "
            f"{now}. Put the first data back (a copy or a link at the same place will do), or choose another --name."
        )
    revision.check_same(str(folder), known.get("codes", ()), str(known.get("commit")), share_any=share_any)


def _began(folder: Path, config: Config, storage: str | None) -> str:
    """Return the note of what a run is trained with, for the file that keeps it."""
    known = began(folder, storage)
    old = [revision.UNKNOWN] if (folder / CONFIG_FILE).exists() else []  # of an older version
    before = known.get("codes") or old
    codes = [*before, *({revision.identity()} - {*before})]
    note = {"data": data_key(config), "commit": known.get("commit") or revision.commit(), "codes": codes}
    return json.dumps(note, indent=1) + "\n"


def _check_storage(folder: Path, storage: str | None) -> None:
    """A run goes on from where its checkpoints are; from another place it would begin anew."""
    file = folder / STORAGE_FILE
    if not file.exists():  # it was begun on another machine
        return
    began = file.read_text(encoding="utf-8").strip() or None
    if began != storage:
        remedy = f"Give --storage {began}" if began else "Leave --storage out"
        raise RunError(
            f"--resume goes on from the checkpoints of the run; {folder} keeps them in {began or 'itself'}, and "
            f"--storage is {storage or 'not given'}. {remedy}."
        )


def claim_folder(folder: Path, config: Config, storage: str | None = None, lease: Lease | None = None) -> None:
    """Make a run's folder, and write down what is trained in it and where else it keeps things; there too."""
    note = _began(folder, config, storage)
    if lease:
        with stores.refusals(str(storage)):
            lease.publish()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in {STORAGE_FILE: f"{storage or ''}\n", BEGAN_FILE: note, CONFIG_FILE: to_yaml(config)}.items():
            with files.replacing(folder / name) as path:  # whole or not there, or the run could not be resumed
                path.write_text(text, encoding="utf-8")
    if storage:
        stores.write_text(stores.below(storage, folder.name, BEGAN_FILE), note)
        stores.write_text(stores.below(storage, folder.name, CONFIG_FILE), to_yaml(config))


def shared_folder(folder: Path, storage: str | None) -> Path | None:
    """Where the first worker, on whatever machine, writes TensorBoard files; none: a bucket takes none."""
    if storage is None:
        return folder
    return None if is_remote(storage) else Path(storage) / folder.name


def train_name(folder: Path) -> str:
    """The name of a run's Ray Train run, and of the folder it has below the storage."""
    return f"{folder.name}-train"
