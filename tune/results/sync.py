"""Storage of a run: a local folder, optionally mirrored to a bucket, and locked so that one process writes it.

Small files (record, trials, Optuna study, reports) are always written to the local folder first, so that no finished
result is lost if the object store fails. If it does not answer, the run waits. Checkpoints and Tune's own state are
written to the storage directly.
"""

from __future__ import annotations

import contextlib
import functools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyarrow import fs

from cluster.lock import Lease, generation, leased
from cluster.run_folder import LOCK, RUN_FILES, check_run_name, locked_folder
from cluster.storage import Location, join_uri, shown_uri
from htt import console, files
from htt.data.store.remote import is_remote
from htt.errors import RunError, StorageError, chain, refusal, storage_errors
from tune.experiments.spec import home
from tune.results.run_folder import RunFolder, find

MIRRORED = (
    *RUN_FILES, "earlier.parquet", "trials.parquet", "trials.jsonl", "epochs.jsonl", "optuna.journal", "best.yaml",
    "report.md", "progress.png",
)  # fmt: skip
DERIVED = ("best.yaml", "report.md", "progress.png")
"""The mirrored files that can be created again from the others, so that losing them loses no result."""
COPY_FILE = ".copy.json"
"""Record of the last transfer: {"generation": lease under which this machine last wrote to the bucket, or "" if it only
read, "files": {name: state of the file at that time}}."""
CLIPS = "clips"
"""Folder of the per-clip results of each trial."""
WATCH_S = 10.0
"""Interval of the checks that the bucket answers, s."""


def locate(name: str, uri: str | None, runs: Path = Path("runs")) -> RunFolder:
    """Return the local folder of a run, updated from its bucket if it has one.

    Args:
        name: name of the run, or path of its folder.
        uri: storage of the run, or None for the storage in its record.
        runs: folder of all runs on this machine.

    Raises:
        RunError: no such run, or a local run and a run in the bucket have the same name.
        StorageError: the bucket does not answer, and was given by ``uri`` or there is no local copy.
    """
    root = home(uri, runs)
    local: RunFolder | None = None
    recorded: str | None = None
    with contextlib.suppress(RunError):
        local = find(name, root)
        recorded = local.record.spec.storage
    for bucket in dict.fromkeys(each for each in (uri, recorded) if each and is_remote(each)):
        check_run_name(Path(name).name)
        storage = Storage(Path(name).name, local.path.parent if local else root, bucket)
        try:
            if not storage.exists_remotely():
                continue
            if recorded and not is_remote(recorded):
                raise RunError(
                    f"Two runs have the same name: {root / name}, which is only on this machine, and {storage.shown}. "
                    "Rename one of the folders."
                )
            storage.refresh()
            for inner in (Storage(each, storage.local, storage.uri) for each in storage.folders("")):
                if inner.exists_remotely():  # such as the finalists of a search
                    inner.refresh()
            break
        except StorageError as error:
            if bucket == uri or local is None:
                raise
            console.err.print(f"{error} Using the copy of this machine, which may be older.", markup=False)
    return find(name, root)


class Storage:
    """Storage of one run: the folder ``local`` for small files, ``uri`` for the files of Ray Tune."""

    def __init__(self, name: str, runs: Path, uri: str | None = None) -> None:
        """Set the paths; write nothing.

        Args:
            name: name of the run.
            runs: folder of all runs on this machine.
            uri: folder or pyarrow.fs URI (s3://bucket/path) that all machines can write to, or None for ``runs``.

        Raises:
            ConfigError: ``uri`` holds a password.
        """
        self.local = (home(uri, runs) / name).resolve()
        self.remote = uri is not None and is_remote(uri)
        self.uri = join_uri(uri, name) if self.remote and uri is not None else str(self.local)
        self._location = Location(self.uri, f"Finished results are in {self.local}.")
        self._made: list[Path] = []
        self._lease: Lease | None = None

    def location(self, name: str) -> str:
        """Return the path or URI of a file or folder of the run, valid on every machine that sees the storage."""
        return join_uri(self.uri, name)

    @property
    def shown(self) -> str:
        """The URI without its options, for messages."""
        return shown_uri(self.uri)

    def check(self) -> None:
        """Raise a ``StorageError`` unless the local folder and the bucket are writable."""
        probe = self.local / ".probe"
        with storage_errors(self.local):
            try:
                self._made = [path for path in (self.local, *self.local.parents) if not path.exists()]
                self.local.mkdir(parents=True, exist_ok=True)
                probe.write_text("ok", encoding="utf-8")
                probe.unlink()
            except (NotADirectoryError, FileExistsError, FileNotFoundError) as error:
                raise StorageError(f"Cannot make the folder {self.local}: {error}.") from error
        if self.remote:
            with self._location.errors():
                system, path = self._location.open()
                system.create_dir(path, recursive=True)
                with system.open_output_stream(f"{path}/.probe") as stream:
                    stream.write(b"ok")
                system.delete_file(f"{path}/.probe")

    def exists(self) -> bool:
        """Return whether the run exists, in the local folder or in the bucket."""
        return RunFolder(self.local).exists() or self.exists_remotely()

    def exists_remotely(self, *marks: str) -> bool:
        """Return whether the bucket holds a file that every run has: one of ``marks``, or the record of the run."""
        return self.remote and any(map(self._location.is_file, marks or RUN_FILES))

    def push(self, *names: str) -> None:
        """Copy small files to the bucket: ``names``, or by default ``MIRRORED``.

        Raises:
            StorageError: the bucket refuses, or another process holds the lease of the run.
        """
        if self.remote:
            self._location.request(functools.partial(self._push, names or MIRRORED))

    def _push(self, names: Sequence[str], system: fs.FileSystem, path: str) -> None:
        copied: dict[str, list[int]] = {}
        if self._lease:
            self._lease.publish()
            word, states = self._read_copied()
            copied = states if word == self._lease.word else {}
        for name in names:
            if not (self.local / name).exists():
                if copied.pop(name, None):  # merged into a file that is already copied
                    with contextlib.suppress(FileNotFoundError):
                        system.delete_file(f"{path}/{name}")
            elif copied.get(name) != (state := self._state(name)):
                system.create_dir(f"{path}/{name}".rpartition("/")[0], recursive=True)
                fs.copy_files(str(self.local / name), f"{path}/{name}", destination_filesystem=system)
                copied[name] = state
        if self._lease:
            self._write_copied(self._lease.word, copied)

    def check_lease(self) -> None:
        """Raise a ``StorageError`` if the lease of the run is known to be lost; send no request."""
        if self._lease:
            self._lease.check()

    def _read_copied(self) -> tuple[str, dict[str, list[int]]]:
        """Return the generation and the file states in ``COPY_FILE``."""
        try:
            record = json.loads((self.local / COPY_FILE).read_text(encoding="utf-8"))
            return str(record["generation"]), dict(record["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return "", {}

    def _write_copied(self, word: str, states: dict[str, list[int]]) -> None:
        files.write_text(self.local / COPY_FILE, json.dumps({"generation": word, "files": states}))

    def push_reports(self) -> None:
        """Copy all files at the top level of the run's folder to the bucket; reports vary in their number of files."""
        self.push(*(path.name for path in self.local.iterdir() if path.is_file() and not path.name.startswith(".")))

    def pull(self, *names: str) -> None:
        """Update the small local files from the bucket, unless this machine was the last to write there.

        Local results that never reached the bucket are moved to a separate folder, ``unsent-<time>``.

        Args:
            names: the files, by default ``MIRRORED``; the first must be a file that every run has.
        """
        if not self.exists_remotely(*names[:1]):
            return
        newest = self._location.request(generation)
        word, copied = self._read_copied()
        if newest and newest == word and any((self.local / name).exists() for name in names[:1] or RUN_FILES):
            return
        aside = self.local / f"unsent-{time.strftime('%Y%m%d-%H%M%S')}"
        for name in names or MIRRORED:
            changed = (self.local / name).exists() and name not in DERIVED and self._state(name) != copied.get(name)
            self._update(name, aside if changed else None)
        for name in [] if names else self.files(CLIPS):
            if not (self.local / CLIPS / name).exists():  # clip files never change
                self.fetch(f"{CLIPS}/{name}", self.local / CLIPS / name)
        self._write_copied("", {name: self._state(name) for name in names or MIRRORED if (self.local / name).exists()})

    def refresh(self, *names: str) -> None:
        """Call ``pull``, unless a process of this machine works on the run: the local files are then the newest."""
        if self.exists_remotely(*names[:1]):
            with contextlib.suppress(RunError), locked_folder(self.local):
                self.pull(*names)

    def _state(self, name: str) -> list[int]:
        return files.state((self.local / name).stat())

    def _update(self, name: str, aside: Path | None) -> None:
        """Replace a local file by that of the bucket, or remove it; move different content to ``aside`` before."""
        local, content = self.local / name, self._location.read(name)
        with storage_errors(self.local):
            if aside and content != local.read_bytes():
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                local.replace(aside / name)
                console.err.print(
                    f"{local} had results that are not in {self.shown}; they are kept in {aside}.", markup=False
                )
            if content is not None:
                files.write_bytes(local, content)
            elif name not in DERIVED:
                local.unlink(missing_ok=True)

    def fetch(self, name: str, to: Path) -> bool:
        """Copy a file of the run's storage to this machine atomically; return False if it does not exist."""
        content = self._location.read(name)
        if content is not None:
            files.write_bytes(to, content)
        return content is not None

    def remove(self, *folders: str) -> None:
        """Remove folders of the run's storage, if they exist."""
        self.check_lease()
        system, path = self._location.open()
        for folder in folders:
            with contextlib.suppress(OSError):  # a leftover only costs space
                system.delete_dir(f"{path}/{folder}")

    def folders(self, folder: str) -> list[str]:
        """Return the names of the folders in a folder of the run's storage."""
        return self._location.names(folder, fs.FileType.Directory)

    def files(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of the run's storage."""
        return self._location.names(folder, fs.FileType.File)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for this process; see ``cluster.run_folder.lease_run``."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked_folder(self.local))
            if self.remote:
                self._lease = stack.enter_context(leased(self.uri, *self._location.open()))
                stack.callback(setattr, self, "_lease", None)
            yield

    def discard_if_empty(self) -> None:
        """Remove the folder of a run that never started, and the parent folders created for it."""
        if {path.name for path in self.local.iterdir()} <= {LOCK}:
            (self.local / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a parent holds another run by now
                for path in self._made:
                    path.rmdir()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Report a bucket that does not answer, even while only the trials use it."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_S):
                with contextlib.suppress(StorageError):
                    self.files("")

        if self.remote:
            threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            over.set()

    @contextlib.contextmanager
    def disk_errors(self) -> Iterator[None]:
        """Raise the ``StorageError`` of the local disk that caused an error of Tune or Optuna."""
        try:
            yield
        except Exception as error:
            for cause in chain(error, "__context__"):
                if isinstance(cause, StorageError):
                    if cause is error:
                        raise
                    raise StorageError(str(cause)) from error  # a copy, since an error cannot be its own cause
                if isinstance(cause, OSError) and (refused := refusal(cause, self.local)):
                    raise refused from error
            if not self.local.is_dir():
                raise StorageError(
                    f"The folder {self.local} was removed during its run. Put it back and resume the run."
                ) from error
            raise
