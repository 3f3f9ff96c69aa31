"""The folder of a final training, readable without Ray and torch.

It holds ``config.yaml`` (what is trained), ``metrics.json`` (every epoch, and the final evaluation on the validation
and the test split), ``checkpoint/`` (read by ``htt.training.checkpoint.load``), ``tensorboard/`` and Ray Train's own
files, from which a training goes on. A ``.lock`` says which process works on it.

With a ``--storage`` Ray Train's files are there, in ``<name>-train``; beside them ``<name>/config.yaml`` says what the
name stands for, to whoever comes from another machine, and in a folder ``<name>/tensorboard/`` is.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster import stores
from cluster.claim import claimed
from htt.config import Config, from_yaml, read, to_yaml
from htt.data.remote import is_remote
from htt.errors import RunError, storage_errors

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
ASKED_FILE = "asked.yaml"
"""What a search or a study has in its folder, and a final training has not."""
CHECKPOINT_FOLDER = "checkpoint"
LOCK = ".lock"
STORAGE_FILE = ".storage"
"""The ``--storage`` a run was begun with; empty: none."""

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
            self.final: dict[str, float] = found.get("final", {})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{file} is damaged ({type(error).__name__}: {error}). Remove it and resume: the last checkpoint knows "
                "the epochs before it, and the file is written again."
            ) from None

    def add(self, metrics: dict[str, float]) -> None:
        """Write down an epoch; one that was repeated after a failure replaces the first."""
        self.epochs[int(metrics["epoch"])] = metrics
        self._write()

    def finish(self, epochs: Sequence[dict[str, float]], final: dict[str, float]) -> None:
        """Write down the final evaluation, and epochs that workers finished while nobody listened."""
        self.epochs |= {int(metrics["epoch"]): metrics for metrics in epochs}
        self.final = final
        self._write()

    def _write(self) -> None:
        plain = {"final": self.final, "epochs": [self.epochs[epoch] for epoch in sorted(self.epochs)]}
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
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8")
    with file:
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
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextlib.contextmanager
def alone(folder: Path, storage: str | None) -> Iterator[None]:
    """Work on a run alone, also of all machines where its ``--storage`` is a bucket.

    Raises:
        RunError: another process works on it.
        StorageError: the storage refuses.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(one_process(folder))
        if storage and is_remote(storage):
            place = stores.below(storage, folder.name)
            stack.enter_context(claimed(place, *stores.ask(place, lambda system, path: (system, path))))
        yield


def check_folder(folder: Path, config: Config, *, resume: bool, storage: str | None = None) -> None:
    """Check that a run's name is free, or that the same training is resumed, and that nobody works on it.

    Args:
        folder: of the run.
        config: the training.
        resume: whether it is to go on.
        storage: where else the run keeps things, ``cluster.stores.settled``; none: nowhere.

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


def claim_folder(folder: Path, config: Config, storage: str | None = None) -> None:
    """Make a run's folder, and write down what is trained in it and where else it keeps things; there too."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).write_text(to_yaml(config), encoding="utf-8")
        (folder / STORAGE_FILE).write_text(f"{storage or ''}\n", encoding="utf-8")
    if storage:
        stores.write_text(stores.below(storage, folder.name, CONFIG_FILE), to_yaml(config))


def shared_folder(folder: Path, storage: str | None) -> Path | None:
    """Where the first worker, on whatever machine, writes TensorBoard files; none: a bucket takes none."""
    if storage is None:
        return folder
    return None if is_remote(storage) else Path(storage) / folder.name


def train_name(folder: Path) -> str:
    """The name of a run's Ray Train run, and of the folder it has below the storage."""
    return f"{folder.name}-train"
