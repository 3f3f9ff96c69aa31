"""Run folder of a final training, readable without Ray and torch.

It contains ``config.yaml`` (the configuration), ``metrics.json`` (every epoch, and the final evaluation on the
validation and the test split), ``checkpoint/`` (read by ``htt.training.checkpoint.load``), ``tensorboard/``, and Ray
Train's own files, from which a training resumes. ``.lock`` contains the PID of the process that works on the run.

With ``--storage``, Ray Train's files are in ``<name>-train`` of the storage. Next to them, ``<name>/config.yaml`` shows
other machines which training has this name, and if the storage is a folder, ``<name>/tensorboard/`` is there too.

Arguments of this module: ``folder`` is the folder of the run, ``config`` the configuration of the training, and
``storage`` the ``--storage`` of the run after ``cluster.storage.absolute_uri``, or None.
"""

from __future__ import annotations

import contextlib
import errno
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
from typing import Any

from filelock import FileLock, Timeout

from cluster import revision
from cluster.lock import Lease, leased
from cluster.storage import join_uri, list_names, read_text, request, uri_errors, write_text
from htt import files
from htt.config import Config, from_yaml, read, to_yaml
from htt.data.location import data_key
from htt.data.store.remote import is_remote
from htt.errors import ConfigError, RunError, shown, storage_errors

CONFIG_FILE = "config.yaml"
METRICS_FILE = "metrics.json"
RUN_FILE = "run.yaml"
RUN_FILES = (RUN_FILE, "asked.yaml")
"""File that only the folder of a search or a study contains, and its name in older versions."""
CHECKPOINT_FOLDER = "checkpoint"
LOCK = ".lock"
LONGEST_NAME = 100
"""Maximum length of a run's name: it is part of file names, which have at most 255 characters."""
LOCK_S = 0.2
"""Time for repeated tries to lock a file that its owner may be removing, s."""
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
"""Errors of file systems without locks, as on some clusters; a run is not protected there."""
STORAGE_FILE = ".storage"
"""File with the ``--storage`` of a run; empty without that option."""
ORIGIN_FILE = "began.json"
"""File with the key of a run's data, its first commit, and the identities of the code that started and resumed it."""


class EpochLog:
    """Contents of ``metrics.json``: all epochs, then the final evaluation. A resumed run continues the same file."""

    def __init__(self, file: Path) -> None:
        """Read the file, if it exists.

        Raises:
            RunError: the file is damaged.
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
                "it is written again from the last checkpoint, which contains the epochs before it."
            ) from None

    def add(self, metrics: dict[str, float]) -> None:
        """Write an epoch; an epoch that was repeated after a failure replaces the old entry."""
        self.epochs[int(metrics["epoch"])] = metrics
        self._write()

    def finish(
        self, epochs: Sequence[dict[str, float]], final: dict[str, float], incomplete: Sequence[str] = ()
    ) -> None:
        """Write the final evaluation, all epochs (some may not have reached the driver), and the incomplete splits."""
        self.epochs |= {int(metrics["epoch"]): metrics for metrics in epochs}
        self.final, self.incomplete = final, list(incomplete)
        self._write()

    def _write(self) -> None:
        lacking = {"incomplete": self.incomplete} if self.incomplete else {}
        plain = {"final": self.final, **lacking, "epochs": [self.epochs[epoch] for epoch in sorted(self.epochs)]}
        files.write_text(self._file, json.dumps(plain, indent=2) + "\n")


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Lock a run's folder for the length of a ``with`` block; the lock also ends with its process.

    Raises:
        RunError: another process works on the run.
        StorageError: the folder cannot be made or written.
    """
    file = folder / LOCK
    with contextlib.ExitStack() as stack:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(file, LOCK_S, fallback_to_soft=False).acquire(poll_interval=LOCK_S / 4))
            except Timeout:
                owner = "?"
                with contextlib.suppress(FileNotFoundError):
                    owner = file.read_text(encoding="utf-8") or owner
                raise RunError(
                    f"{folder} is in use by process {owner}. Wait for it, or stop it with Ctrl-C and resume."
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            file.write_text(str(os.getpid()), encoding="utf-8")
        yield


@contextlib.contextmanager
def lease_run(folder: Path, storage: str | None) -> Iterator[Lease | None]:
    """Lock a run for the length of a ``with`` block, also against other machines that share its ``--storage``.

    Yield the lease if the run is in a bucket, else None. In a bucket, another process may take over the run if this one
    does not renew its lease in time. Then this process is interrupted, as by Ctrl-C, and writes nothing more.

    Raises:
        RunError: another process works on the run.
        StorageError: the storage cannot be read or written, or another process has taken the run over.
    """
    lease: Lease | None = None
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked_folder(folder))
        target = join_uri(storage, folder.name) if storage else str(folder)
        if is_remote(target):
            system, path = request(target, lambda system, path: (system, path))
            lease = stack.enter_context(leased(target, system, path, on_loss=_interrupt))
        elif Path(target).resolve() != folder.resolve():
            stack.enter_context(locked_folder(Path(target)))
        try:
            yield lease
        except KeyboardInterrupt:
            if lease:
                lease.check()
            raise


def _interrupt() -> None:
    """Send SIGINT to the main thread, which may be waiting for workers."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def check_run_name(name: str, option: str = "--name") -> None:
    """Raise a ``ConfigError`` if a name is not valid for folders on every system and in buckets."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ConfigError(
            f"Invalid {option} {shown(name)}: expected letters, digits, dots, dashes and underscores, beginning with a "
            "letter or digit."
        )
    if len(name) > LONGEST_NAME:
        raise ConfigError(f"Invalid {option} '{name[:20]}...': {len(name)} characters, at most {LONGEST_NAME} allowed.")


@contextlib.contextmanager
def reserved_name(given: str | None, runs: Path, stem: str, storage: str | None) -> Iterator[str]:
    """Yield the name of a run: the given one, or a new unique one such as "final-20260101-120000" for stem "final".

    The folder of a new name is made at once, so that no other process takes the name. It is removed after the block if
    it is still empty. In a bucket a name cannot be reserved, so a new name ends with random digits there.

    Raises:
        ConfigError: the given name is invalid.
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
    """Make a folder; return False if it exists already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def check_folder(folder: Path, config: Config, *, resume: bool, storage: str | None = None) -> None:
    """Check that a run's name is free, or that the same training is resumed, and that no process works on the run.

    Raises:
        RunError: the name is taken, the run to resume is missing or another training, or a process works on it.
        StorageError: the storage does not answer.
    """
    check_name(folder, config, resume=resume, storage=storage)
    if resume and folder.exists():
        with locked_folder(folder):
            return


def check_name(folder: Path, config: Config, *, resume: bool, storage: str | None = None) -> None:
    """Check the name as ``check_folder``, but without the lock, for the process that holds it.

    Ray Train itself would resume any run with the same name. The storage also shows runs that were started on other
    machines, which may not exist any more.

    Raises:
        RunError: the name is taken, or the run to resume is missing or another training.
        StorageError: the storage does not answer.
    """
    file = folder / CONFIG_FILE
    known = {str(file): read(file)} if file.exists() else {}
    if storage:
        remote = join_uri(storage, folder.name, CONFIG_FILE)
        text = read_text(remote)
        known |= {} if text is None else {remote: from_yaml(text, remote)}
    if resume:
        if not known:
            missing = f"neither {file} nor {remote} exists" if storage else f"{file} does not exist"
            raise RunError(f"No run to resume: {missing}. Check --name, --runs and --storage.")
        for path, started in known.items():
            if started.fingerprint() != config.fingerprint():
                raise RunError(
                    f"Cannot resume with another configuration than {path}. Use that one, or choose another --name."
                )
        _check_storage(folder, storage)
        return
    taken = [path.partition(f"/{CONFIG_FILE}")[0] for path in known]
    if storage and not taken and list_names(train := join_uri(storage, train_name(folder))):
        taken = [train]
    if any((folder / name).exists() for name in RUN_FILES):
        raise RunError(f"The name is taken: {folder} is a search or a study. Choose another --name.")
    if taken:
        raise RunError(f"The name is taken: {taken[0]} exists. Choose another --name, or resume it with --resume.")


def read_origin(folder: Path, storage: str | None = None) -> dict[str, Any]:
    """Return ``data``, ``commit`` and ``codes`` of a run, or an empty dict if they are missing (older versions).

    The storage is read if this machine has no such file.

    Raises:
        StorageError: the storage does not answer.
    """
    file = folder / ORIGIN_FILE
    text = file.read_text(encoding="utf-8") if file.exists() else None
    if text is None and storage:
        text = read_text(join_uri(storage, folder.name, ORIGIN_FILE))
    try:
        return dict(json.loads(text or "{}"))
    except ValueError:  # truncated by a full disk: treated as missing
        return {}


def check_same(folder: Path, config: Config, *, storage: str | None = None, share_any: bool = False) -> None:
    """Check that a resumed run has the same data, and the same code unless ``share_any``.

    Raises:
        RunError: the data or the code have changed; the message names the old and the new ones.
        DataError: there are no data.
        StorageError: the storage does not answer.
    """
    record, now = read_origin(folder, storage), data_key(config)
    if record.get("data") not in (None, now):
        root = config.data.root or "the rendered benchmark of this version"
        raise RunError(
            f"Cannot resume {folder}: its data changed. It was started with {record['data']}, and {root} is now {now}. "
            "Restore the first data (a copy or a link at the same path is enough), or choose another --name."
        )
    revision.check_same(str(folder), record.get("codes", ()), str(record.get("commit")), share_any=share_any)


def _began(folder: Path, config: Config, storage: str | None) -> str:
    """Return the text of ``began.json``: data, first commit, and the codes with the current one added."""
    earlier = read_origin(folder, storage)
    unknown = [revision.UNKNOWN] if (folder / CONFIG_FILE).exists() else []  # of an older version
    before = earlier.get("codes") or unknown
    codes = [*before, *({revision.identity()} - {*before})]
    record = {"data": data_key(config), "commit": earlier.get("commit") or revision.commit(), "codes": codes}
    return json.dumps(record, indent=1) + "\n"


def _check_storage(folder: Path, storage: str | None) -> None:
    """Raise a ``RunError`` if a resumed run is given another storage, where it would start from the first epoch."""
    file = folder / STORAGE_FILE
    if not file.exists():  # the run was started on another machine
        return
    first = file.read_text(encoding="utf-8").strip() or None
    if first != storage:
        given = f"with --storage {storage}" if storage else "without --storage"
        remedy = f"Add --storage {first}" if first else "Leave out --storage"
        raise RunError(f"Cannot resume {folder} {given}: its checkpoints are in {first or folder}. {remedy}.")


def write_folder(folder: Path, config: Config, storage: str | None = None, lease: Lease | None = None) -> None:
    """Write configuration, ``began.json`` and storage to a run's folder, and the first two also to the storage.

    Raises:
        StorageError: the folder or the storage cannot be written, or another process has taken the run over.
    """
    record = _began(folder, config, storage)
    if lease:
        with uri_errors(str(storage)):
            lease.publish()
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        texts = {STORAGE_FILE: f"{storage or ''}\n", ORIGIN_FILE: record, CONFIG_FILE: to_yaml(config)}
        for name, text in texts.items():
            files.write_text(folder / name, text)  # atomically: with a partial file the run could not be resumed
    if storage:
        write_text(join_uri(storage, folder.name, ORIGIN_FILE), record)
        write_text(join_uri(storage, folder.name, CONFIG_FILE), to_yaml(config))


def shared_folder(folder: Path, storage: str | None) -> Path | None:
    """Return the folder for the first worker's TensorBoard files, or None for a bucket, which gets none."""
    if storage is None:
        return folder
    return None if is_remote(storage) else Path(storage) / folder.name


def train_name(folder: Path) -> str:
    """Return the name of a run's Ray Train run, which is also its folder below the storage."""
    return f"{folder.name}-train"
